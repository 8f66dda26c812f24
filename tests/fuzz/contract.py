"""What holds for every file, however damaged: it is refused in a sentence that names it, or its numbers are finite."""

import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import numpy as np
from mutations import mutated
from valid import VALID

SECONDS = 10.0
"""No input may take longer."""


def verdict(format: str, seed: int, folder: Path) -> str:
    """What comes of the file of a format that a seed damages.

    Returns:
        "accepted", "refused", or a description of the fault.
    """
    name, _ = VALID[format]
    path = folder / name
    path.write_bytes(damaged(format, seed, folder))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            READ[format](path)
    except (ValueError, OSError) as error:
        message = str(error)
        if name not in message:
            return f"the error does not name the file: {type(error).__name__}: {message[:300]}"
        return "refused"
    except Exception as error:
        return f"traceback: {type(error).__name__}: {str(error)[:300]}"
    return "accepted"


def damaged(format: str, seed: int, folder: Path) -> bytes:
    """The damaged file itself."""
    return mutated(VALID[format][0], original(format), np.random.default_rng(seed), folder)


@cache
def original(format: str) -> bytes:
    """A valid file."""
    name, write = VALID[format]
    with TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def _structures(path: Path) -> None:
    from neural_polarization.molecules import Molecules
    from neural_polarization.structures import read_structures

    for atoms in read_structures(path):
        assert np.isfinite(atoms.positions).all()
        assert type(atoms.info.get("charge", 0)) is int and type(atoms.info.get("spin", 0)) is int
        batch = Molecules.from_ase(atoms, 4.0)
        assert batch.positions.isfinite().all()


def _data_set(format: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        from neural_polarization.data.config import DataConfig
        from neural_polarization.data.sources import open_dataset

        data = open_dataset(DataConfig(format, str(path), cache=False))
        assert not any(np.isinf(values).any() for values in data.labels.values())
        assert sum(data.label_counts().values()) > 0
        batch = data.prepare(4.0).batch(np.arange(len(data))).molecules
        assert batch.positions.isfinite().all() and (batch.shifts is None or batch.shifts.isfinite().all())
        assert batch.charge is None or (batch.charge == batch.charge.round()).all()
        data.identities()

    return read


def _both(path: Path) -> None:
    """By prediction and by training, which must agree on what is a file of structures."""
    _structures(path)
    try:
        _data_set("extxyz")(path)
    except ValueError as error:
        # Structures without labels are no data set.
        if "energy" not in str(error):
            raise


def _labels(path: Path) -> None:
    from neural_polarization.labelling.packing import pack

    target = path.with_name("packed_labels.npz")
    target.unlink(missing_ok=True)
    pack([path], target)
    _data_set("packed")(target)


def _configuration(path: Path) -> None:
    from neural_polarization.settings import build, plain, read_yaml
    from neural_polarization.training.config import ExperimentConfig

    tree, source = read_yaml(path)
    plain(build(ExperimentConfig, tree, source))


def _split(path: Path) -> None:
    from neural_polarization.data.splits import load_split

    parts = load_split(path).parts.values()
    assert all((part >= 0).all() and len(np.unique(part)) == len(part) for part in parts)


def _checkpoint(path: Path) -> None:
    from ase.build import molecule

    from neural_polarization.checkpoints import load_model
    from neural_polarization.interfaces.prediction import predict

    model, _ = load_model(path)
    if {"H", "O"} <= set(model.config.elements):
        (prediction,) = predict(model, [molecule("H2O")])
        assert all(np.isfinite(values).all() for values in prediction.properties.values())


READ: Mapping[str, Callable[[Path], None]] = MappingProxyType(
    {
        "extended XYZ": _both,
        "SDF": _structures,
        "SMILES": _structures,
        "ASE database": _both,
        "ASE JSON": _both,
        "ASE trajectory": _both,
        "POSCAR": _structures,
        "CIF": _structures,
        "packed npz": _data_set("packed"),
        "QM9 npz": _data_set("qm9"),
        "rMD17 npz": _data_set("rmd17"),
        "HDF5 labels": _labels,
        "HDF5 labels of 0.1": _labels,
        "QM9 archive": _data_set("qm9"),
        "YAML": _configuration,
        "split": _split,
        "checkpoint": _checkpoint,
    }
)
"""Every way in of a format; raises where the contract is broken."""
