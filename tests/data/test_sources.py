"""From a configuration to data and split."""

from dataclasses import replace
from pathlib import Path

import ase.io
import jsonargparse
import numpy as np
import pytest
from ase.build import molecule

from neural_polarization.data import batching
from neural_polarization.data.columns import PropertyConfig
from neural_polarization.data.config import DataConfig, SplitConfig
from neural_polarization.data.dataset import Dataset
from neural_polarization.data.packed import write_packed
from neural_polarization.data.sources import FORMATS, make_split, open_dataset
from neural_polarization.data.splits import save_split
from neural_polarization.errors import DataError
from neural_polarization.units import factor


@pytest.fixture
def packed(dataset: Dataset, tmp_path: Path) -> DataConfig:
    write_packed(dataset, tmp_path / "set.npz")
    return DataConfig("packed", str(tmp_path / "set.npz"), cache_directory=str(tmp_path / "cache"))


def test_molecules_without_any_chosen_label_are_left_out(packed: DataConfig) -> None:
    assert len(open_dataset(packed)) == 40
    energies = DataConfig(packed.format, packed.path, {"energy": PropertyConfig()}, cache=False)
    data = open_dataset(energies)
    assert len(data) == 39
    assert np.isfinite(data.labels["energy"]).all()
    assert data.cache_directory is None


def test_neighbours_are_kept_where_the_configuration_says(
    packed: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "WORTH_KEEPING", 0)
    open_dataset(packed).prepare(3.0)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npz"]


def test_the_users_cache_folder(packed: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert open_dataset(DataConfig(packed.format, packed.path)).cache_directory == (
        tmp_path / "xdg" / "neural_polarization"
    )


def test_every_kind_of_split(packed: DataConfig, tmp_path: Path) -> None:
    data = open_dataset(packed)
    random = make_split(data, SplitConfig("random", 20, 5, 5, seed=3))
    assert [len(part) for part in random.parts.values()] == [20, 5, 5]
    group = make_split(data, SplitConfig("group", None, 1, 2, seed=3))
    assert group.by == "group"
    assert sum(len(part) for part in group.parts.values()) == 40
    with pytest.raises(DataError, match=r"has no stored split; give split\.path"):
        make_split(data, SplitConfig("stored"))
    save_split(random, tmp_path / "split.json")
    stored = make_split(data, SplitConfig("stored", train=10, path=str(tmp_path / "split.json")))
    assert set(stored.train.tolist()) < set(random.train.tolist())
    assert stored.test.tolist() == random.test.tolist()
    with pytest.raises(DataError, match=r"data\.split\.path: is for kind"):
        make_split(data, SplitConfig("random", path="split.json"))
    with pytest.raises(DataError, match="has no split 'published_3'; Known: none"):
        make_split(data, SplitConfig("published", number=3))


def test_a_random_split_keeps_all_fields_of_a_geometry(tmp_path: Path) -> None:
    """One molecule in several fields: no label is left out, and no geometry is in two parts."""
    generator = np.random.default_rng(0)
    structures: list[ase.Atoms] = []
    for k in range(10):
        atoms = molecule("H2O")
        atoms.rattle(0.1, seed=k)
        for field in (None, generator.normal(size=3), generator.normal(size=3)):
            structures.append(atoms.copy())
            structures[-1].info["REF_energy"] = float(k)
            if field is not None:
                structures[-1].info["external_field"] = field
    ase.io.write(tmp_path / "set.xyz", structures, format="extxyz")
    wanted = {"energy": PropertyConfig(), "external_field": PropertyConfig()}
    data = open_dataset(DataConfig("extxyz", str(tmp_path / "set.xyz"), wanted, cache=False))
    split = make_split(data, SplitConfig("random"))
    assert [len(part) for part in split.parts.values()] == [24, 3, 3]
    assert sorted(np.concatenate(list(split.parts.values())).tolist()) == list(range(30))


def frames(path: Path, names: list[str], count: int = 6) -> DataConfig:
    """Rattled molecules in an extended XYZ file."""
    structures = [molecule(name) for name in names for _ in range(count)]
    for k, atoms in enumerate(structures):
        atoms.rattle(0.05, seed=k)
        atoms.info["E"] = float(k)
    ase.io.write(path, structures, format="extxyz")
    return DataConfig("extxyz", str(path), {"energy": PropertyConfig(source="E", unit="eV")}, cache=False)


def test_groups_that_are_fewer_than_parts(tmp_path: Path) -> None:
    config = SplitConfig("group", 0.8, 0.1, 0.1)
    one = open_dataset(frames(tmp_path / "one.xyz", ["CH3CH2OH"]))
    with pytest.raises(DataError, match=r"one\.xyz: .* one group \(C2H6O\).*use split\.kind: random.*data\.group"):
        make_split(one, config)
    two = open_dataset(frames(tmp_path / "two.xyz", ["H2O", "CH4"]))
    with pytest.raises(DataError, match=r"2 groups \((H2O, CH4|CH4, H2O)\), which cannot fill the parts train, val"):
        make_split(two, config)
    assert [len(part) for part in make_split(two, SplitConfig("group", 1, 1, 0)).parts.values()] == [6, 6, 0]


def test_a_split_of_other_molecules_is_refused(packed: DataConfig, tmp_path: Path) -> None:
    data = open_dataset(packed)
    save_split(make_split(data, SplitConfig()), tmp_path / "split.json")
    stored = SplitConfig("stored", train=5, path=str(tmp_path / "split.json"))
    assert len(make_split(data, stored).train) == 5
    others = data.subset(np.arange(len(data))[::-1])
    with pytest.raises(DataError, match="was made for other molecules"):
        make_split(others, stored)


def test_a_property_of_another_kind(packed: DataConfig) -> None:
    wanted = {"forces": PropertyConfig(per_atom=False)}
    with pytest.raises(DataError, match="forces has one value per atom; leave per_atom out"):
        open_dataset(DataConfig(packed.format, packed.path, wanted))


def test_molecules_can_be_left_out_of_a_packed_qm9_file(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "qm9.npz",
        index=np.array([4, 7]),
        n_atoms=np.array([1, 1]),
        atomic_numbers=np.array([2, 10]),
        positions=np.zeros((2, 3)),
        gap=np.zeros(2),
    )
    (tmp_path / "list.txt").write_text("4\n")
    config = DataConfig("qm9", str(tmp_path / "qm9.npz"), exclude=str(tmp_path / "list.txt"), cache=False)
    assert open_dataset(config).groups.tolist() == [7]


def test_a_stored_split_that_leaks_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    structures = [dataset.structure(9), dataset.structure(10), dataset.structure(9)]
    structures[2].rotate(40, "x")
    for atoms, energy in zip(structures, (1.0, 2.0, 1.0), strict=True):
        atoms.info["E"] = energy
    ase.io.write(tmp_path / "set.xyz", structures, format="extxyz")
    (tmp_path / "split.json").write_text('{"by": "structure", "train": [0], "validation": [1], "test": [2]}')
    config = DataConfig(
        "extxyz", str(tmp_path / "set.xyz"), {"energy": PropertyConfig(source="E", unit="eV")}, cache=False
    )
    with pytest.raises(DataError, match="of the train part by content"):
        make_split(open_dataset(config), SplitConfig("stored", path=str(tmp_path / "split.json")))


def test_splits_do_not_depend_on_the_run(packed: DataConfig) -> None:
    # These numbers may only change with a new major version: stored results name seeds.
    split = make_split(open_dataset(packed), SplitConfig("random", 5, 3, 2, seed=11))
    assert split.test.tolist() == EXPECTED_TEST


EXPECTED_TEST = [16, 14]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DataConfig("rmd71", "x"), "data.format: 'rmd71' is none; did you mean 'rmd17'"),
        (DataConfig("packed", ""), "data.path: is empty"),
        (DataConfig("qm9", "qm9.tar.bz2", label_source=1), "data.label_source: only packed QM9 files"),
        (DataConfig("extxyz", "x", label_source=1), "data.label_source: is only for qm9, not extxyz"),
        (DataConfig("packed", "x", exclude="list.txt"), "data.exclude: is only for qm9"),
        (DataConfig("rmd17", "x", group="mol"), "data.group: is only for extxyz and ase"),
    ],
)
def test_configurations_that_make_no_sense(config: DataConfig, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(config)


WRONG_UNITS: list[tuple[str, PropertyConfig, str]] = [
    ("energy", PropertyConfig("E", "eV", shown_in="Angstrom"), r"energy\.shown_in: 'Angstrom' is length, .* is energy"),
    (
        "forces",
        PropertyConfig("E", "hartree"),
        r"forces\.unit: 'hartree' is energy, .* energy / length, such as eV/Ang",
    ),
    ("energy", PropertyConfig("E", "kcal"), r"energy\.unit: 'kcal' is energy \* amount"),
    ("energy", PropertyConfig("E", "1"), r"energy\.unit: '1' is a pure number.* another name to another quantity"),
    ("U0", PropertyConfig("E", "eV/Angstrom"), r"U0\.unit: 'eV/Angstrom' is energy / length, but U0 should be energy"),
    ("Cv", PropertyConfig("E", "cal/mol"), r"Cv\.unit: 'cal/mol' is energy, but .* energy / temperature"),
    ("own", PropertyConfig("E", "D", shown_in="meV"), r"own\.shown_in: 'meV' is energy, but own is length \* charge"),
    ("own", PropertyConfig("energy", shown_in="D"), r"own\.shown_in: 'D' is length \* charge, but own is energy"),
    ("dipole", PropertyConfig("forces"), r"dipole\.source: 'eV/Angstrom' is energy / length, but dipole should be"),
    ("energy", PropertyConfig("E", "1/0"), r"energy\.unit: unit '1/0' has no value"),
    ("energy", PropertyConfig("E", "eV", shown_in="mev"), r"energy\.shown_in: unknown unit 'mev' .*did you mean 'meV'"),
]


@pytest.mark.parametrize(("name", "wanted", "message"), WRONG_UNITS)
def test_units_of_another_quantity(name: str, wanted: PropertyConfig, message: str) -> None:
    # Units are looked at before the file is, which may take long to read.
    with pytest.raises(DataError, match=rf"data\.properties\.{message}"):
        open_dataset(DataConfig("extxyz", "nowhere.xyz", {name: wanted}))


@pytest.mark.parametrize(
    ("name", "unit", "shown_in"),
    [
        ("energy", "kcal/mol", "meV"),
        ("U0", "kJ/mol", None),
        ("anything", "1", "1"),
        ("anything", "1", "100"),
        ("anything", "e^2*bohr^2/hartree", "e^2*A^2/eV"),
        ("gradient", "-hartree/bohr", "eV/A"),
    ],
)
def test_units_that_fit(tmp_path: Path, name: str, unit: str, shown_in: str | None) -> None:
    config = frames(tmp_path / "set.xyz", ["H2O"])
    wanted = {name: PropertyConfig("E", unit, shown_in=shown_in)}
    data = open_dataset(replace(config, properties=wanted))
    np.testing.assert_allclose(data.labels[name], np.arange(6) * factor(unit))


def test_a_unit_of_the_energy_alone(tmp_path: Path) -> None:
    """Forces in hartree/bohr beside energies in hartree are read in eV/Angstrom, 51 times too small."""
    atoms = molecule("H2O")
    atoms.info["energy"], atoms.arrays["forces"] = -76.4, np.full((3, 3), 0.01)
    ase.io.write(tmp_path / "set.xyz", atoms, format="extxyz")
    wanted = {"energy": PropertyConfig(unit="hartree"), "forces": PropertyConfig()}
    config = DataConfig("extxyz", str(tmp_path / "set.xyz"), wanted, cache=False)
    with pytest.warns(UserWarning, match=r"forces: has no unit and is read in eV/Angstrom, but the energy in hartree"):
        open_dataset(config)
    both = {**wanted, "forces": PropertyConfig(unit="hartree/bohr")}
    labels = open_dataset(replace(config, properties=both)).labels["forces"]
    np.testing.assert_allclose(labels, 0.01 * factor("hartree/bohr"))


def test_units_of_known_formats(packed: DataConfig, tmp_path: Path) -> None:
    for name, wanted, message in (
        ("energy", PropertyConfig(shown_in="D"), r"energy\.shown_in: 'D' is length \* charge"),
        ("own", PropertyConfig("dipole", unit="eV"), r"own\.unit: 'eV' is energy, but own should be length \* charge"),
        ("forces", PropertyConfig("energy"), r"forces\.source: 'meV' is energy, but forces should be energy / length"),
    ):
        with pytest.raises(DataError, match=rf"set\.npz: data\.properties\.{message}"):
            open_dataset(replace(packed, properties={name: wanted}))
    shown = open_dataset(replace(packed, properties={"own": PropertyConfig("dipole", shown_in="e*bohr")}))
    assert shown.properties["own"].unit == "e*bohr"
    np.savez(
        tmp_path / "md17.npz",
        z=np.array([2]),
        R=np.zeros((2, 1, 3)),
        E=np.zeros(2),
        F=np.zeros((2, 1, 3)),
        e_unit=np.array("K"),
    )
    with pytest.raises(DataError, match=r"energy\.source: 'K' is temperature, but energy should be energy"):
        open_dataset(DataConfig("md17", str(tmp_path / "md17.npz"), cache=False))


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_names_a_missing_file(format: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_dataset(DataConfig(format, str(tmp_path / "nowhere.npz")))


def test_no_labels_at_all(tmp_path: Path) -> None:
    atoms = molecule("H2O")
    atoms.info["energy"] = float("nan")
    ase.io.write(tmp_path / "set.xyz", atoms, format="extxyz")
    wanted = {"energy": PropertyConfig()}
    with pytest.raises(DataError, match="no molecule has a label of energy"):
        open_dataset(DataConfig("extxyz", str(tmp_path / "set.xyz"), wanted, cache=False))
    with pytest.raises(DataError, match="no property is chosen"):
        open_dataset(DataConfig("extxyz", str(tmp_path / "set.xyz"), {}, cache=False))


@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
def test_the_configuration_can_be_written_as_yaml(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        """
data:
  format: extxyz
  path: mine.xyz
  properties:
    energy: {source: E, unit: kcal/mol}
    charges: {unit: e, per_atom: true}
  split: {kind: group, train: 0.8, validation: 10, seed: 4}
"""
    )
    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_argument("--data", type=DataConfig)
    values = parser.parse_args(["--config", str(tmp_path / "config.yaml"), "--data.split.test=7"])
    config = parser.instantiate_classes(values).data
    assert config == DataConfig(
        "extxyz",
        "mine.xyz",
        {
            "energy": PropertyConfig("E", "kcal/mol"),
            "charges": PropertyConfig(unit="e", per_atom=True),
        },
        split=SplitConfig("group", 0.8, 10, 7, seed=4),
    )
    assert isinstance(config.split.test, int)
