"""The repository's own data set is what its README says."""

import hashlib
import re
from pathlib import Path

import ase
import numpy as np
import pytest

from neural_polarization.data.densities import Densities
from neural_polarization.data.packed import read_packed
from neural_polarization.units import COULOMB

DATA = Path(__file__).parents[2] / "data"


SETS = ("small_molecules", "ordinary_molecules")
FILES = (
    "ethanol.npz",
    "ethanol_fields.npz",
    "formaldehyde_fields.npz",
    "small_fields.npz",
    "water_dimers_fields.npz",
    *(f"{name}{part}.npz" for name in SETS for part in ("", "_densities")),
)


@pytest.fixture(scope="module")
def main() -> dict[str, np.ndarray]:
    with np.load(DATA / "small_molecules.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def extra() -> dict[str, np.ndarray]:
    with np.load(DATA / "small_molecules_densities.npz") as arrays:
        return dict(arrays)


def rows(counts: np.ndarray, k: int) -> slice:
    end = int(np.cumsum(counts)[k])
    return slice(end - int(counts[k]), end)


@pytest.mark.parametrize("name", FILES)
def test_checksums(name: str) -> None:
    stated = re.search(rf"^([0-9a-f]{{64}})  {name}$", (DATA / "README.md").read_text(), re.MULTILINE)
    assert stated is not None
    assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == stated[1]


def test_promised_sizes(main: dict[str, np.ndarray], extra: dict[str, np.ndarray]) -> None:
    assert len(main["n_atoms"]) >= 800
    assert np.isfinite(main["polarizability"][:, 0, 0]).sum() >= 250
    assert len(extra["n_coefficients"]) >= 150
    assert len(extra["n_centroids"]) == len(main["n_atoms"])
    for name in ("energy", "forces", "dipole", "homo", "spatial_extent", "hirshfeld_charges"):
        assert np.isfinite(main[name]).all()
    assert sum(file.stat().st_size for file in DATA.iterdir()) < 40e6


@pytest.mark.parametrize(
    ("name", "in_fields", "with_charges", "strengths"),
    [
        ("formaldehyde", 240, 40, (0.2, 1.0)),
        ("ethanol", 240, 40, (0.2, 1.0)),
        ("small", 880, 44, (0.2, 1.0)),
        ("water_dimers", 120, 0, (0.1, 0.6)),
    ],
)
def test_labels_in_fields_agree_with_each_other(
    name: str, in_fields: int, with_charges: int, strengths: tuple[float, float]
) -> None:
    """Energies in fields are those of dipole and polarizability of the same geometry; charges add up to zero."""
    with np.load(DATA / f"{name}_fields.npz") as arrays:
        found = dict(arrays)
    fields = np.linalg.norm(found["external_field"], axis=1)
    inside = np.isfinite(fields)
    low, high = strengths
    assert inside.sum() == in_fields and (fields[inside] >= low).all() and (fields[inside] <= high).all()
    count = len(inside)
    geometry = [found["positions"][rows(found["n_atoms"], k)].round(6).tobytes() for k in range(count)]
    without = {geometry[k]: k for k in np.flatnonzero(~inside)}
    differences: list[float] = []
    for k in np.flatnonzero(inside):
        same = without[geometry[k]]
        assert found["split"][same] == found["split"][k]
        field = found["external_field"][k].astype(np.float64)
        induced = field @ found["polarizability"][same] @ field / (2.0 * COULOMB)
        expected = -field @ found["dipole"][same] - induced
        differences.append(abs(found["energy"][k] - found["energy"][same] - expected))
    assert np.mean(differences) < 3e-4 and max(differences) < 5e-3
    if with_charges == 0:
        assert "born_charges" not in found
        return
    charges = [found["born_charges"][rows(found["n_atoms"], k)] for k in range(count)]
    known = [some for some in charges if np.isfinite(some).all()]
    assert len(known) == with_charges
    assert max(np.abs(some.sum(0)).max() for some in known) < 1e-5


def test_frames_of_ethanol(main: dict[str, np.ndarray]) -> None:
    """One molecule in all its conformers, at the level of the other set."""
    with np.load(DATA / "ethanol.npz") as arrays:
        ethanol = dict(arrays)
    assert len(ethanol["n_atoms"]) == 600
    assert set(ethanol["smiles"].tolist()) == {"CCO"}
    assert ethanol["level"] == main["level"]
    assert np.abs(np.add.reduceat(ethanol["forces"], np.arange(0, 9 * 600, 9))).max() < 0.01
    assert np.sqrt(np.mean(ethanol["forces"] ** 2)) == pytest.approx(1.1, abs=0.05)
    frames = ethanol["positions"].reshape(600, 9, 3)
    turns = [ase.Atoms("C2OH6", frame).get_dihedral(0, 1, 2, 8) for frame in frames]
    assert (np.histogram(turns, 6, (0.0, 360.0))[0] > 10).all(), "gauche and trans"


def test_split_is_by_molecule(main: dict[str, np.ndarray]) -> None:
    parts = [set(main["smiles"][main["split"] == part].tolist()) for part in range(3)]
    assert all(parts)
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    loaded = read_packed(DATA / "small_molecules.npz")
    assert len(loaded.splits["stored"].parts["train"]) == (main["split"] == 0).sum()


def test_sum_rules_of_all_structures(main: dict[str, np.ndarray], extra: dict[str, np.ndarray]) -> None:
    ends = np.cumsum(main["n_atoms"])
    starts = ends - main["n_atoms"]
    assert np.abs(np.add.reduceat(main["forces"], starts)).max() < 0.02
    assert np.abs(np.add.reduceat(main["hirshfeld_charges"], starts)).max() < 1e-3
    # Nuclei less localized orbitals make the dipole of every structure.
    nuclei = np.add.reduceat(main["atomic_numbers"][:, None] * main["positions"], starts)
    first = np.cumsum(extra["n_centroids"]) - extra["n_centroids"]
    electrons = np.add.reduceat(extra["centroid_occupations"][:, None] * extra["centroid_positions"], first)
    order = extra["centroid_structure"]
    # Structures that were localized again were computed anew, converged from another start.
    np.testing.assert_allclose(nuclei[order] - electrons, main["dipole"][order], atol=4e-4)


@pytest.mark.parametrize("name", SETS)
def test_densities(name: str) -> None:
    """Every density has the electrons and the dipole of its structure, and the fit is as good as the README says."""
    data = read_packed(DATA / f"{name}.npz")
    densities = Densities(DATA / f"{name}_densities.npz", data.molecules)
    assert len(densities) == len(np.unique(densities.structures)) >= 100
    everything = densities.batch(range(len(densities)))
    assert everything.charge.abs().max() < 1e-6
    np.testing.assert_allclose(everything.dipole, data.labels["dipole"][densities.structures], atol=2e-5)
    extent, quadrupole = (data.labels[label][densities.structures] for label in ("spatial_extent", "quadrupole"))
    np.testing.assert_allclose(everything.spatial_extent, extent, rtol=1e-3)
    np.testing.assert_allclose(everything.quadrupole, quadrupole, atol=5e-3)
    with np.load(DATA / f"{name}_densities.npz") as arrays:
        assert 0 < arrays["fit_error"].mean() < 1e-3
        assert arrays["fit_error"].max() < 1.5e-3


def test_ordinary_molecules_have_forces_and_some_polarizabilities() -> None:
    with np.load(DATA / "ordinary_molecules.npz") as arrays:
        forces, counts, tensors = arrays["forces"], arrays["n_atoms"], arrays["polarizability"]
    assert np.isfinite(forces).all()
    assert np.abs(np.add.reduceat(forces, np.cumsum(counts) - counts)).max() < 0.02
    # Displaced as at 300 to 500 K, from the minima of a force field.
    assert 0.5 < np.sqrt(np.mean(forces**2)) < 2.0
    known = tensors[np.isfinite(tensors[:, 0, 0])]
    assert len(known) == 406
    np.testing.assert_allclose(known, known.transpose(0, 2, 1), atol=1e-4)
    assert np.linalg.eigvalsh(known).min() > 1.0


def test_ordinary_molecules_are_new(main: dict[str, np.ndarray]) -> None:
    with np.load(DATA / "ordinary_molecules.npz") as arrays:
        assert not set(arrays["smiles"].tolist()) & set(main["smiles"].tolist())
        assert arrays["level"] == main["level"]
        parts = [set(arrays["smiles"][arrays["split"] == part].tolist()) for part in range(3)]
    assert all(parts)
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
