"""From SMILES to a data set that trains: the three commands in their order, and their mistakes."""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
import torch

pytest.importorskip("rdkit")

from neural_polarization.data.densities import Densities
from neural_polarization.data.packed import read_packed
from neural_polarization.errors import DataError
from neural_polarization.labelling import packing
from neural_polarization.labelling.calculation import Request, compute
from neural_polarization.labelling.commands import add_parsers
from neural_polarization.labelling.jobs import serial
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import FAST, Accuracy
from neural_polarization.labelling.properties.density import evaluate_density
from neural_polarization.labelling.relaxation import relax
from neural_polarization.labelling.store import LabelStore, Record, read_labels, structure_key
from neural_polarization.units import HARTREE

REQUEST = Request(Level.parse("PBE/3-21G"), FAST, ("forces",))


def npol(*words: str) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_parsers(parser.add_subparsers(required=True))
    known, rest = parser.parse_known_args(words)
    return known.run(known, rest)


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes have their own test; here they would only cost their start."""
    monkeypatch.setattr("neural_polarization.labelling.jobs.processes", lambda _: serial)


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neural_polarization.labelling.jobs.processes", lambda _: serial)
        molecules, labels = str(folder / "molecules.extxyz"), str(folder / "labels.h5")
        assert npol("enumerate", "1", "-o", molecules, "--frames", "2", "--seed", "3") == 0
        words = ["label", molecules, "-o", labels, "--level", "PBE/3-21G", "--accuracy", "fast"]
        assert npol(*words, "--fraction", "polarizability=0.5") == 0
        assert npol("pack", labels, "-o", str(folder / "set.npz"), "--densities", str(folder / "densities.npz")) == 0
    return folder


def test_the_set_is_read_by_the_data_room(data_set: Path) -> None:
    loaded = read_packed(data_set / "set.npz")
    assert len(loaded) == 8
    assert {"energy", "forces", "dipole", "polarizability", "hirshfeld_charges"} <= set(loaded.properties)
    assert loaded.properties["forces"].per_atom
    assert sum(len(part) for part in loaded.splits["stored"].parts.values()) == 8


def test_the_set_holds_what_was_computed(data_set: Path) -> None:
    with np.load(data_set / "set.npz") as arrays:
        assert sorted(set(arrays["smiles"].tolist())) == ["C", "F", "N", "O"]
        assert arrays["n_atoms"].sum() == len(arrays["atomic_numbers"]) == len(arrays["forces"])
        for molecule in range(4):
            assert len(set(arrays["split"][arrays["molecule"] == molecule].tolist())) == 1, "never split by frame"
        missing = np.isnan(arrays["polarizability"]).all(axis=(1, 2))
        assert 0 < missing.sum() < 8
        structures = ase.io.read(data_set / "molecules.extxyz", ":")
        labels = compute(structures[5], REQUEST)
        assert arrays["energy"][5] == pytest.approx(float(labels["energy"]), abs=1e-5)
        start = arrays["n_atoms"][:5].sum()
        stored = arrays["forces"][start : start + len(structures[5])]
        np.testing.assert_allclose(stored, labels["forces"], atol=1e-3)


def test_densities_of_the_set(data_set: Path) -> None:
    loaded = read_packed(data_set / "set.npz")
    densities = Densities(data_set / "densities.npz", loaded.molecules)
    assert densities.structures.tolist() == list(range(8))
    turned = replace(loaded.molecules, positions=-loaded.molecules.positions)
    with pytest.raises(DataError, match=r"density 0 does not fit structure 0 .*an atom is"):
        Densities(data_set / "densities.npz", turned)
    structures = ase.io.read(data_set / "molecules.extxyz", ":")
    labels = compute(structures[5], replace(REQUEST, quantities=("density",)))
    points = np.array([[0.3, 0.0, 0.1], [0.9, -0.5, 0.4]])
    exact = evaluate_density(structures[5], REQUEST.level, labels["density_matrix"], points)
    np.testing.assert_allclose(densities[5].evaluate(torch.tensor(points)), exact, rtol=0.02)
    everything = densities.batch(range(8))
    np.testing.assert_allclose(everything.charge, 0.0, atol=1e-6)
    np.testing.assert_allclose(everything.dipole, loaded.labels["dipole"], atol=1e-4)
    with np.load(data_set / "densities.npz") as extra:
        assert 0 < extra["fit_error"].min() <= extra["fit_error"].max() < 2e-3
        electrons = extra["centroid_occupations"][: extra["n_centroids"][0]].sum()
        assert electrons == structures[0].numbers.sum()


def test_a_structure_may_name_its_part() -> None:
    atoms = [ase.Atoms("H", info={"smiles": f"C{k}", "split": "test"}) for k in range(20)]
    records = [Record("", one, {}, "", 0.0, 0) for one in atoms]
    assert set(packing._main_arrays(records, 0)["split"].tolist()) == {2}
    records[3].atoms.info["split"] = "tests"
    with pytest.raises(ValueError, match="C3: split is 'tests'; expected train, validation, test"):
        packing._main_arrays(records, 0)


def test_two_spellings_of_a_smiles_are_one_molecule() -> None:
    atoms = [ase.Atoms("H", info={"smiles": smiles}) for smiles in ("OCC", "COC", "CCO", "[2H]OCC", "no SMILES")]
    arrays = packing._main_arrays([Record("", one, {}, "", 0.0, 0) for one in atoms], 0)
    assert arrays["molecule"].tolist() == [0, 1, 0, 0, 2]
    assert arrays["smiles"].tolist() == ["CCO", "COC", "CCO", "CCO", "no SMILES"]
    assert len(set(arrays["split"][[0, 2, 3]].tolist())) == 1


def test_frames_of_a_molecule_stay_in_one_part() -> None:
    parts = [packing._part(f"C{k}", 0) for k in range(3000)]
    assert parts.count(0) == pytest.approx(2400, abs=90)
    assert parts.count(1) == pytest.approx(300, abs=60)
    assert packing._part("CCO", 0) == packing._part("CCO", 0)


def test_parts_are_drawn_by_seed() -> None:
    structures = [ase.Atoms("H", info={"smiles": f"C{k}"}) for k in range(2000)]
    records = [Record("", atoms, {}, "", 0.0, 0) for atoms in structures]
    first, again, other = (packing._main_arrays(records, seed)["split"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.mean(first == other) == pytest.approx(0.8**2 + 2 * 0.1**2, abs=0.04), "as of independent draws"


def test_relaxation_finds_the_minimum() -> None:
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.9]])
    relaxed = relax(atoms, REQUEST)
    # PBE near its basis set limit has 0.751 Angstrom; 3-21G is close to it.
    assert relaxed.get_distance(0, 1) == pytest.approx(0.75, abs=0.01)
    assert atoms.get_distance(0, 1) == pytest.approx(0.9), "the input stays as it is"
    assert relaxed.calc is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["label", "{folder}/no.xyz", "-o", "x.h5"], "no such file"),
        (["label", "{folder}/radical.xyz", "-o", "x.h5"], r"radical.xyz: structure 0: HO .* 9 electrons"),
        (["label", "{folder}/broken.xyz", "-o", "x.h5"], r"broken.xyz: line 4: 'Zz' is no element"),
        (["label", "{folder}/water.xyz", "-o", "x.h5", "--level", "B3LYP"], "expected METHOD/BASIS"),
        (["label", "{folder}/water.xyz", "-o", "x.h5", "--level", "PBE/foo"], "basis 'foo' has no functions"),
        (["label", "{folder}/iodide.xyz", "-o", "x.h5", "--level", "PBE/def2-SVP"], "core potential for I"),
        (
            ["label", "{folder}/iodide.xyz", "-o", "x.h5", "--level", "PBE/DZP", "--accuracy", "fast"],
            "no functions for the inner electrons of I",
        ),
        (
            ["label", "{folder}/water.xyz", "{folder}/periodic.xyz", "-o", "x.h5"],
            r"periodic.xyz: structure 1: is periodic along 3 of 3 directions",
        ),
        (["label", "{folder}/water.xyz", "-o", "x.h5", "--fraction", "density"], "expected NAME=SHARE"),
        (["label", "{folder}/water.xyz", "-o", "x.h5", "--workers", "0"], "workers: expected at least 1"),
        (["label", "{folder}/water.xyz", "-o", "x.h5", "--field", "0", "0", "50"], "at most 5 V/Angstrom, got 50"),
        (["label", "{folder}/water.xyz", "-o", "x.h5", "--field", "0", "0", "nan"], "at most 5 V/Angstrom, got nan"),
        (["label", "{folder}/water.xyz", "-o", "x.h5", "--per-structure", "2"], "give --random-fields LOW HIGH too"),
        (
            ["label", "{folder}/water.xyz", "-o", "x.h5", "--field", "0", "0", "1", "--random-fields", "0.2", "1"],
            "leave out --random-fields or --field",
        ),
        (["label", "{folder}/pulled.xyz", "-o", "x.h5"], r"field: expected at most 5 V/Angstrom, got 6"),
        (["label", "{folder}/water.xyz", "-o", "x.h5", "--gpu"], "Cartesian d functions"),
        (["enumerate", "0", "-o", "{folder}/x.extxyz"], "heavy_atoms: expected at least 1"),
        (["enumerate", "1", "-o", "{folder}/x.xyz"], "expected the ending .extxyz"),
        (["sample", "O", "-o", "{folder}/x.xyz"], "expected the ending .extxyz"),
        (["sample", "O", "--frames", "0", "-o", "{folder}/x.extxyz"], "frames: expected at least 1"),
        (["sample", "C(", "-o", "{folder}/x.extxyz"], "SMILES 'C\\(' cannot be read"),
        (["sample", "CO.O", "-o", "{folder}/x.extxyz"], "SMILES 'CO.O' has 2 fragments"),
        (["pack", "{folder}/water.xyz", "-o", "{folder}/x.npz"], "water.xyz: has neither energy nor forces nor dipole"),
        (["pack", "x.h5", "-o", "x.set"], r"x.set: expected the ending .npz"),
        (["pack", "x.h5", "-o", "x.npz", "--densities", "./x.npz"], "densities are a file of their own"),
        (["pack", "x.h5", "-o", "x.npz", "--densities", "x.h5"], "x.h5: is one of the files of labels"),
    ],
)
def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: Sequence[str], message: str) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "radical.xyz").write_text("2\n\nO 0 0 0\nH 0 0 1\n")
    (tmp_path / "broken.xyz").write_text("2\n\nO 0 0 0\nZz 0 0 1\n")
    water = "3\n\nO 0 0 0\nH 0 0 1\nH 0 0.9 -0.3\n"
    (tmp_path / "water.xyz").write_text(water)
    (tmp_path / "pulled.xyz").write_text(water.replace("\n\n", '\nexternal_field="0 0 6"\n'))
    (tmp_path / "iodide.xyz").write_text("2\n\nH 0 0 0\nI 0 0 1.61\n")
    (tmp_path / "periodic.xyz").write_text(water + water.replace("\n\n", '\nLattice="9 0 0 0 9 0 0 0 9"\n'))
    with pytest.raises((ValueError, OSError, RuntimeError), match=message):
        npol(*(word.format(folder=tmp_path) for word in words))
    assert not (tmp_path / "x.h5").exists(), "nothing is begun before everything is checked"


def test_existing_structures_are_not_overwritten(tmp_path: Path) -> None:
    words = ["enumerate", "1", "-o", str(tmp_path / "a.extxyz"), "--frames", "1"]
    assert npol(*words) == 0
    with pytest.raises(FileExistsError, match="exists; give another path, or --overwrite"):
        npol(*words)
    assert npol(*words, "--overwrite") == 0


HYDROGEN = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.75]])


def labelled(path: Path, request: Request, atoms: ase.Atoms = HYDROGEN, energy: float = -31.0) -> Path:
    """A file of labels that took no calculation."""
    with LabelStore(path, request) as store:
        store.add(structure_key(atoms, request), atoms, {"energy": np.array(energy)}, 0.1)
    return path


def test_packed_sets_keep_charges_and_every_digit_of_energies(tmp_path: Path) -> None:
    ion = ase.Atoms("HeH", [[0, 0, 0], [0, 0, 0.77]], info={"charge": 1})
    neutral = labelled(tmp_path / "one.h5", REQUEST, energy=-11013.123456789)
    packing.pack([neutral, labelled(tmp_path / "two.h5", REQUEST, ion)], tmp_path / "set.npz")
    both = read_packed(tmp_path / "set.npz")
    assert both.labels["energy"].tolist() == [-11013.123456789, -31.0]
    assert both.molecules.charges is not None
    assert both.molecules.charges.tolist() == [0.0, 1.0]
    packing.pack([neutral], tmp_path / "neutral.npz")
    assert read_packed(tmp_path / "neutral.npz").molecules.charges is None


def test_the_field_of_a_file_of_labels_is_that_of_its_structures(tmp_path: Path) -> None:
    """`--field` labels all structures in one field, which a training has to know; a structure may have its own."""
    request = replace(REQUEST, field=(0.0, 0.0, 0.2))
    own = HYDROGEN.copy()
    own.info["external_field"] = [0.1, 0.0, 0.0]
    path = labelled(tmp_path / "labels.h5", request)
    with LabelStore(path, request) as store:
        labels = {"energy": np.array(-31.0), "external_field": np.array([0.1, 0.0, 0.0])}
        store.add(structure_key(own, request), own, labels, 0.1)
    packing.pack([path], tmp_path / "set.npz")
    fields = read_packed(tmp_path / "set.npz").labels["external_field"]
    np.testing.assert_allclose(sorted(fields.tolist()), [[0.0, 0.0, 0.2], [0.1, 0.0, 0.0]], atol=1e-7)


def test_the_charge_in_a_file_wins_over_that_of_the_command(tmp_path: Path) -> None:
    given = [
        ase.Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"charge": -1}),
        ase.Atoms("HeH", [[0, 0, 0], [0, 0, 0.77]]),
        ase.Atoms("Li", info={"charge": 0, "spin": 1}),
    ]
    ase.io.write(tmp_path / "ions.extxyz", given)
    words = ["label", str(tmp_path / "ions.extxyz"), "-o", str(tmp_path / "x.h5"), "--level", "HF/STO-3G"]
    assert npol(*words, "--quantities", "forces", "--charge", "1", "--spin", "0") == 0
    found = {str(record.atoms.symbols): record.atoms.info for record in read_labels(tmp_path / "x.h5")}
    assert {symbols: (info["charge"], info["spin"]) for symbols, info in found.items()} == {
        "OH": (-1, 0), "HeH": (1, 0), "Li": (0, 1),
    }  # fmt: skip


def test_a_set_is_never_packed_over_its_labels_or_another_set(tmp_path: Path) -> None:
    labels = labelled(tmp_path / "x.h5", REQUEST)
    linked = tmp_path / "link.npz"
    linked.symlink_to(labels)
    before = labels.read_bytes()
    for target in (labels, linked):
        with pytest.raises(ValueError, match="is one of the files of labels, which would be lost"):
            npol("pack", str(labels), "-o", str(target), "--overwrite")
    assert labels.read_bytes() == before
    words = ["pack", str(labels), "-o", str(tmp_path / "set.npz"), "--densities", str(tmp_path / "densities.npz")]
    assert npol(*words) == 0
    with pytest.raises(FileExistsError, match=r"set.npz exists; give another path, or --overwrite"):
        npol(*words)
    (tmp_path / "set.npz").unlink()
    with pytest.raises(FileExistsError, match=r"densities.npz exists"):
        npol(*words)
    assert not (tmp_path / "set.npz").exists(), "nothing is written before everything is checked"
    assert npol(*words, "--overwrite") == 0


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(REQUEST, level=Level.parse("HF/3-21G")), r"in level \(HF/3-21G, PBE/3-21G\)"),
        (replace(REQUEST, field=(0.0, 0.0, 2.0)), r"in field \(\[0.0, 0.0, 2.0\], \[0.0, 0.0, 0.0\]\)"),
        (replace(REQUEST, accuracy=Accuracy()), r"in convergence \(1e-09, 1e-07\), density_fitting \(False, True\)"),
    ],
)
def test_files_that_are_no_set_together(tmp_path: Path, other: Request, message: str) -> None:
    sources = [labelled(tmp_path / "one.h5", REQUEST), labelled(tmp_path / "two.h5", other)]
    with pytest.raises(
        ValueError, match=rf"two.h5: its labels differ from those of .*one.h5 {message}.*pack them apart"
    ):
        packing.pack(sources, tmp_path / "set.npz")
    assert not (tmp_path / "set.npz").exists()


def test_a_set_tells_how_it_was_made(tmp_path: Path) -> None:
    """Files whose solver was given more iterations go together."""
    patient = replace(REQUEST, accuracy=replace(FAST, max_cycles=200))
    sources = [labelled(tmp_path / "one.h5", REQUEST), labelled(tmp_path / "two.h5", patient)]
    packing.pack(sources, tmp_path / "set.npz")
    with np.load(tmp_path / "set.npz") as arrays:
        assert str(arrays["level"]) == "PBE/3-21G"
        assert json.loads(str(arrays["accuracy"]))["density_fitting"] is True
        np.testing.assert_array_equal(arrays["field"], [0.0, 0.0, 0.0])
    assert set(read_packed(tmp_path / "set.npz").properties) == {"energy"}


def test_nothing_labelled_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hydrogen.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.75\n2\n\nH 0 0 0\nH 0 0 0.8\n")
    (tmp_path / "far.xyz").write_text("3\n\nO 0 0 0\nH 0 0 3.0\nH 0 2.0 0\n")
    words = ["--level", "HF/STO-3G", "--quantities", "forces", "-o", str(tmp_path / "x.h5")]
    hopeless = ["label", str(tmp_path / "far.xyz"), *words, "--max-cycles", "1"]
    assert npol(*hopeless) == 1
    assert "none of these structures has labels" in capsys.readouterr().err
    assert npol(*hopeless) == 1, "it failed before and was not tried again"
    words[-1] = str(tmp_path / "y.h5")
    assert npol("label", str(tmp_path / "hydrogen.xyz"), *words) == 0
    assert npol("label", str(tmp_path / "hydrogen.xyz"), *words) == 0, "all were there already"


def test_what_a_basis_does_not_have_is_a_missing_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Helium fills the one orbital of a minimal basis: it has no lowest empty one, and nothing that could respond."""
    (tmp_path / "both.xyz").write_text("1\n\nHe 0 0 0\n2\n\nH 0 0 0\nH 0 0 0.75\n")
    words = ["label", str(tmp_path / "both.xyz"), "--level", "HF/STO-3G", "-o"]
    assert npol(*words, str(tmp_path / "x.h5"), "--quantities", "forces") == 0
    assert npol("pack", str(tmp_path / "x.h5"), "-o", str(tmp_path / "set.npz")) == 0
    data = read_packed(tmp_path / "set.npz")
    for name in ("lumo", "gap"):
        assert np.isnan(data.labels[name]).tolist() == [True, False]
    assert np.isfinite(data.labels["homo"]).all()
    assert npol(*words, str(tmp_path / "y.h5"), "--quantities", "polarizability") == 0
    assert "He 0.0 s FAILED: ValueError: polarizability: the basis leaves no orbital empty" in re.sub(
        r"\d+\.\d s", "0.0 s", capsys.readouterr().err
    )
    assert [len(record.reason) > 0 for record in read_labels(tmp_path / "y.h5")] == [True, False]
    hydrogen = compute(ase.Atoms("H", info={"spin": 1}), replace(REQUEST, level=Level.parse("HF/STO-3G")))
    assert hydrogen["lumo"] > hydrogen["homo"], "of the other spin"


def test_a_quantity_that_cannot_be_added_leaves_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "helium.xyz").write_text("1\n\nHe 0 0 0\n")
    (tmp_path / "both.xyz").write_text("1\n\nHe 0 0 0\n2\n\nH 0 0 0\nH 0 0 0.75\n")
    words = ["--level", "HF/STO-3G", "-o", str(tmp_path / "x.h5"), "--quantities"]
    assert npol("label", str(tmp_path / "both.xyz"), *words, "forces") == 0
    for again in ((), ("--retry-failed",)):
        assert npol("label", str(tmp_path / "helium.xyz"), *words, "polarizability", *again) == 1
        assert "none of these structures has all quantities in" in capsys.readouterr().err
    helium = next(record for record in read_labels(tmp_path / "x.h5") if len(record.atoms) == 1)
    assert "leaves no orbital empty" in helium.not_added["polarizability"] and "forces" in helium.labels
    assert npol("label", str(tmp_path / "both.xyz"), *words, "polarizability") == 0
    assert "of 2 labelled structures 1 have not all quantities in" in capsys.readouterr().err
    assert npol("label", str(tmp_path / "both.xyz"), *words, "forces") == 0
    assert "quantities" not in capsys.readouterr().err


def test_periodic_structures_have_no_labels() -> None:
    with pytest.raises(ValueError, match="H2: is periodic along 1 of 3 directions"):
        compute(ase.Atoms(HYDROGEN, cell=[9.0, 9.0, 9.0], pbc=[True, False, False]), REQUEST)


def test_options_that_are_given_twice_add_up(tmp_path: Path) -> None:
    """The second --property took the place of the first, whose labels were left out."""
    frames = [ase.Atoms("H2", [[0, 0, 0], [0, 0, distance]]) for distance in (0.7, 0.8)]
    for atoms in frames:
        atoms.info |= {"E": -1.0, "mu": np.zeros(3)}
    ase.io.write(tmp_path / "set.extxyz", frames)
    words = ["--property", "energy=E:hartree", "--property", "dipole=mu:D"]
    assert npol("pack", str(tmp_path / "set.extxyz"), "-o", str(tmp_path / "set.npz"), *words) == 0
    assert read_packed(tmp_path / "set.npz").properties.keys() == {"energy", "dipole"}


def test_extended_xyz_is_packed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.01 * k]]) for k in range(4)]
    for k, atoms in enumerate(frames):
        atoms.info |= {"E": -1.0 - k, "mol": "h2", "charge": int(k == 3)}
    source, target = tmp_path / "set.extxyz", tmp_path / "set.npz"
    ase.io.write(source, [*frames[:3], ase.Atoms("O"), frames[3]])
    words = ["pack", str(source), "-o", str(target), "--property", "energy=E:hartree"]
    assert npol(*words) == 0
    shown = capsys.readouterr().out
    assert "5 structures read" in shown and "left out: 1 (no label of energy)" in shown
    assert f"{target}: 4 structures; train on it with format: packed" in shown
    data = read_packed(target)
    np.testing.assert_allclose(data.labels["energy"], HARTREE * np.array([-1.0, -2.0, -3.0, -4.0]))
    assert data.molecules.charges is not None and data.molecules.charges.tolist() == [0, 0, 0, 1]
    assert data.groups.tolist() == [0] * 4
    with pytest.raises(FileExistsError, match=r"set\.npz exists; give another path, or --overwrite"):
        npol(*words)
    with pytest.raises(ValueError, match="--property 'E': expected NAME=KEY:UNIT"):
        npol(*words, "E", "--overwrite")
    with pytest.raises(ValueError, match="one file is packed at a time"):
        npol("pack", str(source), str(source), "-o", str(tmp_path / "two.npz"))


@pytest.mark.parametrize(("frame", "packed"), [("first", 0), ([1, 2], 0), (10**12, 0), (7, 7), (np.int64(7), 7)])
def test_frames_are_packed_as_numbers(tmp_path: Path, frame: Any, packed: int) -> None:
    hydrogen = HYDROGEN.copy()
    hydrogen.info["frame"] = np.array(frame) if isinstance(frame, list) else frame
    source = labelled(tmp_path / "labels.h5", Request(Level.parse("PBE/def2-SVP")), hydrogen)
    assert packing.pack([source], tmp_path / "set.npz").structures == 1
    with np.load(tmp_path / "set.npz") as file:
        assert file["frame"].tolist() == [packed]


def test_structures_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rdkit")
    path = tmp_path / "frames.extxyz"
    words = ["sample", "C", "-o", str(path), "--frames", "1"]
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="its folder cannot be written"):
        npol("sample", "not a SMILES", "-o", str(tmp_path / "file" / "frames.extxyz"))
    path.write_text("a former file")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        npol(*words, "--overwrite")
    assert path.read_text() == "a former file"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["enumerate", "1", "-o", "x.extxyz", "--temperature", "nan"], "--temperature: nan is no finite number"),
        (["enumerate", "1", "-o", "x.extxyz", "--frames", "0"], "--frames: expected at least 1, got 0"),
        (["enumerate", "1", "-o", "x.extxyz", "--largest-sample", "-2"], "--largest-sample: expected at least 1"),
        (["enumerate", "1", "-o", "x.extxyz", "--seed", "-5"], "--seed: expected a whole number from 0 to"),
        (["sample", "C", "-o", "x.extxyz", "--interval", "inf"], "--interval: inf is no finite number"),
        (["sample", "C", "-o", "x.extxyz", "--seed", "99999999999"], "--seed: expected a whole number from 0 to"),
        (["label", "x.xyz", "-o", "x.h5", "--random-fields", "0.1", "0.2", "--seed", "-1"], "--seed: expected"),
    ],
)
def test_numbers_that_nothing_can_be_made_of(
    words: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        npol(*words)
    assert ended.value.code == 2
    assert f"error: argument {message}" in capsys.readouterr().err


def test_an_enumeration_of_nothing_replaces_nothing(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    path = tmp_path / "small.extxyz"
    path.write_text("a former file")
    with pytest.raises(ValueError, match="--smallest 5: no molecule has as many heavy atoms, of at most 1"):
        npol("enumerate", "1", "-o", str(path), "--smallest", "5", "--overwrite")
    assert path.read_text() == "a former file"
