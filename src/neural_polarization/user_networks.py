"""Networks of users, by the name `package.module:Class`: from a configuration to an object of that class.

Importing a module runs its code. So a module is imported for a configuration, which its user wrote, and never for a
checkpoint alone: `check_trusted` stands before that.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

from torch import nn

from neural_polarization.backbones.protocol import Backbone
from neural_polarization.errors import TrustError

SIZES = ("channels", "num_layers", "cutoff", "num_basis", "lmax")
"""Numbers that a configuration can give to the constructor of a network, by the names of its arguments."""

_SPECIES = "num_species"
_MEMBERS = ("cutoff", "num_species", "scalar_channels", "vector_channels", "layers")


def is_users(name: str) -> bool:
    """Whether a network's name is that of a class in a module of the user's.

    Example:
        >>> is_users("my_network:MyNetwork"), is_users("painn")
        (True, False)
    """
    return ":" in name


def module_of(name: str) -> str:
    """The module in `package.module:Class`; empty for a network of this library."""
    return name.partition(":")[0] if is_users(name) else ""


def check_trusted(name: str, trust: Collection[str], source: str) -> None:
    """Makes sure that a module may be imported for a checkpoint.

    Args:
        name: of the network, as in `BackboneConfig.name`.
        trust: modules that may be imported, or packages that they are in.
        source: the checkpoint, for the error.

    Raises:
        TrustError: if the module of the network is not among them.

    Example:
        >>> check_trusted("ours.networks:Mine", ["ours"], "model.safetensors")
        >>> check_trusted("theirs:Network", ["ours"], "model.safetensors")
        Traceback (most recent call last):
            ...
        neural_polarization.errors.TrustError: model.safetensors: its network 'theirs:Network' is defined in the ...
    """
    module = module_of(name)
    if not module or any(module == trusted or module.startswith(f"{trusted}.") for trusted in trust):
        return
    raise TrustError(
        f"{source}: its network {name!r} is defined in the Python module {module!r}, which is no part of this library; "
        f"if you trust its code, allow to import it: --trust {module} on the command line, trust=[{module!r}] in Python"
    )


def look_beside(directory: Path) -> None:
    """Lets modules be imported from a directory too, after all the places where Python looks by itself.

    Processes that this one starts look there as well.
    """
    place = str(directory.resolve())
    if place not in sys.path:
        sys.path.append(place)
    inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    if place not in inherited:
        os.environ["PYTHONPATH"] = os.pathsep.join([*inherited, place])


def network_class(name: str) -> type[Backbone[Any]]:
    """The class of a user's network; its module is imported.

    Args:
        name: `package.module:Class`.

    Raises:
        ValueError: for a module or class that is not there, a module that fails, or a class that is no network.
    """
    path, _, attribute = name.partition(":")
    if not path or not attribute.isidentifier():
        raise ValueError(
            f"backbone.name: {name!r} is not of the form package.module:Class, such as my_network:MyNetwork"
        )
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not (path == error.name or path.startswith(f"{error.name}.")):
            raise ValueError(
                f"backbone.name: the module {path!r} cannot be imported ({error}); install that"
            ) from error
        raise ValueError(
            f"backbone.name: there is no module {path!r}; put {path.split('.')[0]}.py beside the YAML file or into the "
            "current directory, install it, or add its directory to PYTHONPATH"
        ) from None
    except Exception as error:  # whatever a user's module raises
        raise ValueError(
            f"backbone.name: the module {path!r} fails when it is imported ({type(error).__name__}: {error})"
        ) from error
    kind = vars(module).get(attribute)
    if kind is None:
        raise ValueError(f"backbone.name: the module {path!r} ({module.__file__}) has no class {attribute!r}")
    missing = [method for method in ("embed", "split", "join") if not callable(getattr(kind, method, None))]
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)) or missing:
        lacks = f" (it lacks {', '.join(missing)})" if missing else ""
        raise ValueError(
            f"backbone.name: {name!r} is not a Backbone{lacks}; it must be a torch.nn.Module with what "
            "neural_polarization.Backbone lists, see docs/polarize_your_own.md"
        )
    return cast("type[Backbone[Any]]", kind)


def complete_sizes(name: str, given: Mapping[str, int | float | None]) -> dict[str, int | float]:
    """The sizes that the class of a network takes: those that are given, and its own defaults for the others.

    Raises:
        ValueError: for a size that is given but not taken, or one that is neither given nor has a default.
    """
    parameters = inspect.signature(network_class(name)).parameters
    anything = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    if _SPECIES not in parameters and not anything:
        raise ValueError(f"backbone.name: the constructor of {name!r} must take the argument {_SPECIES}")
    sizes: dict[str, int | float] = {}
    for key in SIZES:
        value = given.get(key)
        if value is not None and key not in parameters and not anything:
            raise ValueError(
                f"backbone.{key}: the constructor of {name!r} takes no argument {key!r} (it takes "
                f"{', '.join(parameters)}); leave it out"
            )
        default = parameters[key].default if key in parameters else None
        if value is None and default is inspect.Parameter.empty:
            raise ValueError(f"backbone.{key}: the constructor of {name!r} needs it; give a number")
        value = default if value is None else value
        if value is not None:
            sizes[key] = value
    return sizes


def make_network(name: str, sizes: Mapping[str, int | float], num_species: int) -> Backbone[Any]:
    """A new network of a user's class.

    Args:
        name: `package.module:Class`.
        sizes: arguments of its constructor beside `num_species`, as `complete_sizes` gives them.
        num_species: species that it has to embed.

    Raises:
        ValueError: if the constructor fails, or the object lacks something that a backbone has.
    """
    kind: Any = network_class(name)
    try:
        network = kind(num_species=num_species, **sizes)
    except Exception as error:  # whatever a user's class raises
        arguments = ", ".join(f"{key}={value}" for key, value in {_SPECIES: num_species, **sizes}.items())
        raise ValueError(f"backbone.name: {name}({arguments}) fails ({type(error).__name__}: {error})") from error
    missing = [member for member in _MEMBERS if not hasattr(network, member)]
    if missing:
        raise ValueError(
            f"backbone.name: {name!r} is not a Backbone: it lacks {', '.join(missing)}; see docs/polarize_your_own.md"
        )
    return network
