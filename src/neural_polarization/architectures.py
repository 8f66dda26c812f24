"""Every architecture by its name, with three sizes: that of its paper, a standard one, and a small one for tests.

Networks of users are named as `package.module:Class` (`user_networks.py`).
"""

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from neural_polarization.backbones import CGCNN, EGNN, GVP, Backbone, DimeNetPP, PaiNN, SchNet, TorchMDET
from neural_polarization.geometry import FEATURE_EPSILON, FIELD_EPSILON
from neural_polarization.user_networks import complete_sizes, is_users, make_network

Value = TypeVar("Value")


LONGEST_CUTOFF = 1000.0
"""Angstrom; a longer cutoff is a mistake, and too long a number for what is computed from it."""


@dataclass(frozen=True)
class Size:
    """How large a network is.

    Attributes:
        channels: Width of its features.
        num_layers: Number of rounds of messages.
        cutoff: Distance in Angstrom below which nuclei exchange messages.
        num_basis: Number of radial functions; networks without them ignore it.
        lmax: Highest degree of its features or harmonics; None for networks without a choice of degrees.
        most_heads: Largest number of attention heads; one for networks without attention.
        norm_epsilon: Norm below which norms of vector features turn smooth; networks that take none ignore it.
    """

    channels: int
    num_layers: int
    cutoff: float = 5.0
    num_basis: int = 20
    lmax: int | None = None
    most_heads: int = 1
    norm_epsilon: float = FEATURE_EPSILON

    @property
    def num_heads(self) -> int:
        """Number of attention heads: the greatest common divisor of `channels` and `most_heads`."""
        return math.gcd(self.channels, self.most_heads)


@dataclass(frozen=True)
class Architecture:
    """A network, and its named sizes.

    Attributes:
        build: Function that makes the network from a size and a number of species.
        paper: Size in the original paper; the one for molecules if the paper gives several.
    """

    build: Callable[[Size, int], Backbone[Any]]
    paper: Size

    @property
    def presets(self) -> Mapping[str, Size]:
        """Sizes by name."""
        paper = self.paper
        degrees = paper.lmax is not None
        return {
            "standard": Size(
                channels=32 if degrees else 64,
                num_layers=min(paper.num_layers, 3),
                num_basis=min(paper.num_basis, 20),
                lmax=None if paper.lmax is None else min(paper.lmax, 2),
                most_heads=paper.most_heads,
            ),
            "paper": paper,
            "small": replace(paper, channels=8, num_layers=2, cutoff=4.0, num_basis=min(paper.num_basis, 8)),
        }


def _painn(size: Size, num_species: int) -> Backbone[Any]:
    return PaiNN(num_species, size.channels, size.num_layers, size.cutoff, size.num_basis, size.norm_epsilon)


def _schnet(size: Size, num_species: int) -> Backbone[Any]:
    return SchNet(num_species, size.channels, size.num_layers, size.cutoff, size.num_basis)


def _egnn(size: Size, num_species: int) -> Backbone[Any]:
    return EGNN(num_species, size.channels, size.num_layers, size.cutoff)


def _cgcnn(size: Size, num_species: int) -> Backbone[Any]:
    return CGCNN(num_species, size.channels, size.num_layers, size.cutoff, size.num_basis)


def _dimenet(size: Size, num_species: int) -> Backbone[Any]:
    return DimeNetPP(num_species, size.channels, size.num_layers, size.cutoff, size.num_basis)


def _torchmd_et(size: Size, num_species: int) -> Backbone[Any]:
    return TorchMDET(num_species, size.channels, size.num_layers, size.cutoff, size.num_basis, size.num_heads)


def _gvp(size: Size, num_species: int) -> Backbone[Any]:
    vectors = max(2, round(0.16 * size.channels))  # the paper's proportion
    return GVP(num_species, size.channels, size.num_layers, size.cutoff, size.num_basis, vectors, size.norm_epsilon)


# Networks of irreducible representations need e3nn, which is an extra and takes a second to import. So it is imported
# when such a network is built.


def _tfn(size: Size, num_species: int) -> Backbone[Any]:
    from neural_polarization.backbones.tfn import TFN

    return TFN(
        num_species, size.channels, size.num_layers, size.cutoff, size.num_basis, _degree(size), size.norm_epsilon
    )


def _nequip(size: Size, num_species: int) -> Backbone[Any]:
    from neural_polarization.backbones.nequip import NequIP

    return NequIP(num_species, size.channels, size.num_layers, size.cutoff, size.num_basis, _degree(size))


def _segnn(size: Size, num_species: int) -> Backbone[Any]:
    from neural_polarization.backbones.segnn import SEGNN

    return SEGNN(num_species, size.channels, size.num_layers, size.cutoff, _degree(size))


def _so3krates(size: Size, num_species: int) -> Backbone[Any]:
    from neural_polarization.backbones.so3krates import SO3krates

    return SO3krates(
        num_species, size.channels, size.num_layers, size.cutoff, size.num_basis, _degree(size), size.num_heads
    )


def _cormorant(size: Size, num_species: int) -> Backbone[Any]:
    from neural_polarization.backbones.cormorant import Cormorant

    return Cormorant(num_species, size.channels, size.num_layers, size.cutoff, size.num_basis, _degree(size))


def _mace(size: Size, num_species: int) -> Backbone[Any]:
    from neural_polarization.backbones.mace import MACE

    degree = _degree(size)
    return MACE(
        num_species, size.channels, size.num_layers, size.cutoff, size.num_basis, degree, lmax_features=min(degree, 2)
    )


def _se3_transformer(size: Size, num_species: int) -> Backbone[Any]:
    from neural_polarization.backbones.se3_transformer import SE3Transformer

    return SE3Transformer(
        num_species,
        size.channels,
        size.num_layers,
        size.cutoff,
        size.num_basis,
        _degree(size),
        size.num_heads,
        size.norm_epsilon,
    )


def _equiformer(size: Size, num_species: int) -> Backbone[Any]:
    from neural_polarization.backbones.equiformer import Equiformer

    return Equiformer(
        num_species, size.channels, size.num_layers, size.cutoff, size.num_basis, _degree(size), size.num_heads
    )


ARCHITECTURES: dict[str, Architecture] = {
    "schnet": Architecture(_schnet, Size(64, 3, cutoff=30.0, num_basis=300)),
    "cgcnn": Architecture(_cgcnn, Size(64, 3, cutoff=8.0, num_basis=41)),
    "dimenet": Architecture(_dimenet, Size(128, 4, num_basis=6)),
    "egnn": Architecture(_egnn, Size(128, 7)),
    "painn": Architecture(_painn, Size(128, 3)),
    "torchmd_et": Architecture(_torchmd_et, Size(128, 6, num_basis=32, most_heads=8)),
    "gvp": Architecture(_gvp, Size(100, 5, cutoff=4.5, num_basis=16)),
    "tfn": Architecture(_tfn, Size(15, 3, lmax=1)),
    "nequip": Architecture(_nequip, Size(64, 5, cutoff=4.0, num_basis=8, lmax=3)),
    "segnn": Architecture(_segnn, Size(36, 7, cutoff=2.0, lmax=2)),
    "so3krates": Architecture(_so3krates, Size(132, 3, num_basis=32, lmax=3, most_heads=4)),
    "cormorant": Architecture(_cormorant, Size(16, 4, num_basis=16, lmax=3)),
    "mace": Architecture(_mace, Size(256, 2, num_basis=8, lmax=3)),
    "se3_transformer": Architecture(_se3_transformer, Size(32, 7, num_basis=20, lmax=3, most_heads=8)),
    "equiformer": Architecture(_equiformer, Size(128, 6, num_basis=128, lmax=2, most_heads=4)),
}
"""Every architecture that a configuration can name."""


@dataclass(frozen=True)
class BackboneConfig:
    """Which network, and its size: the size of a preset, in which the given numbers replace the preset's.

    Attributes:
        name: Architecture: schnet, cgcnn, dimenet, egnn, painn, torchmd_et, gvp, tfn, nequip, segnn, so3krates,
            cormorant, mace, se3_transformer or equiformer; or a class of your own as `package.module:Class`. Its
            constructor is called with `num_species` and those of the next five numbers that it takes; numbers that
            are left out are the constructor's own defaults.
        channels: Width of the network's features. Left out: the preset's.
        num_layers: Number of rounds of messages. Left out: the preset's.
        cutoff: Distance in Angstrom below which nuclei exchange messages. Left out: the preset's.
        num_basis: Number of radial functions. Networks without radial functions ignore it. Left out: the preset's.
        lmax: Highest degree of the features, for networks of irreducible representations only. Left out: the
            preset's.
        preset: Named size: "standard" has at most 3 layers and 64 channels (or 32 of every degree up to 2), which
            trains on one processor; "paper" is the original's size; "small" is for tests.
    """

    name: str = "painn"
    channels: int | None = None
    num_layers: int | None = None
    cutoff: float | None = None
    num_basis: int | None = None
    lmax: int | None = None
    preset: str = "standard"

    @property
    def size(self) -> Size:
        """The size of the network.

        Raises:
            ValueError: for an unknown name or preset, an `lmax` for a network without degrees, or a number that makes
                no network.
        """
        if is_users(self.name):
            return self._users_size()
        presets = look_up(ARCHITECTURES, self.name, "backbone.name").presets
        size = look_up(presets, self.preset, "backbone.preset")
        if self.lmax is not None and size.lmax is None:
            raise ValueError(f"backbone.lmax: {self.name} has no degrees to choose; leave it out")
        self._check_numbers()
        return replace(size, **{key: value for key, value in self._given().items() if value is not None})

    def resolved(self) -> "BackboneConfig":
        """The same configuration with every number written out, as checkpoints keep it."""
        if is_users(self.name):
            sizes: dict[str, Any] = dict(complete_sizes(self.name, self._given()))
            return replace(self, **sizes)
        size = self.size
        return replace(
            self,
            channels=size.channels,
            num_layers=size.num_layers,
            cutoff=size.cutoff,
            num_basis=size.num_basis,
            lmax=size.lmax,
        )

    def build(self, num_species: int, smooth: bool = False) -> Backbone[Any]:
        """A new network that embeds this number of species.

        Args:
            num_species: number of species.
            smooth: whether second derivatives by a field are taken, for which norms of features have to be smoother;
                a network of one's own sees to that itself.

        Raises:
            ValueError: as for `size`, and for a class of the user that cannot be imported or is no network.
        """
        if is_users(self.name):
            self._users_size()
            return make_network(self.name, complete_sizes(self.name, self._given()), num_species)
        size = replace(self.size, norm_epsilon=FIELD_EPSILON) if smooth else self.size
        return look_up(ARCHITECTURES, self.name, "backbone.name").build(size, num_species)

    def _given(self) -> dict[str, int | float | None]:
        return {
            "channels": self.channels,
            "num_layers": self.num_layers,
            "cutoff": self.cutoff,
            "num_basis": self.num_basis,
            "lmax": self.lmax,
        }

    def _users_size(self) -> Size:
        """The size of a user's network; numbers that its class does not take are those of the standard size."""
        if self.preset != "standard":
            raise ValueError(
                f"backbone.preset: {self.name!r} has no preset {self.preset!r}; give the numbers themselves"
            )
        self._check_numbers()
        sizes: dict[str, Any] = dict(complete_sizes(self.name, self._given()))
        return replace(Size(channels=64, num_layers=3), **sizes)

    def _check_numbers(self) -> None:
        if self.lmax is not None and self.lmax < 1:
            raise ValueError(
                f"backbone.lmax: with {self.lmax} there are no vectors that points could move by; give 1 or more"
            )
        for key, least in (("channels", 1), ("num_layers", 1), ("num_basis", 2)):
            value = self._given()[key]
            if value is not None and value < least:
                raise ValueError(f"backbone.{key}: expected at least {least}, got {value}")
        if self.cutoff is not None and not 0 < self.cutoff <= LONGEST_CUTOFF:
            raise ValueError(
                f"backbone.cutoff: expected a positive length of at most {LONGEST_CUTOFF:g} Angstrom, got {self.cutoff}"
            )


def look_up(table: Mapping[str, Value], name: str, argument: str) -> Value:
    """The entry of that name.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
    """
    if name not in table:
        near = difflib.get_close_matches(str(name), table, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{argument}: {name!r} is not known; choose one of {', '.join(table)}{hint}")
    return table[name]


def _degree(size: Size) -> int:
    assert size.lmax is not None
    return size.lmax
