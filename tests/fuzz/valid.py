"""Small valid files of every format, which the fuzzer damages."""

import json
import tarfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType

import ase
import ase.db
import ase.io
import h5py
import numpy as np
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from neural_polarization.labelling.integrity import copy_with_room, seal

MOLECULES = ("H2O", "CH4", "CH3OH", "NH3")


def structures() -> list[ase.Atoms]:
    """Labelled molecules, an ion, a triplet, an isolated atom and a crystal."""
    rng = np.random.default_rng(0)
    made: list[ase.Atoms] = []
    for k, name in enumerate((*MOLECULES, "O2", "OH")):
        atoms = molecule(name)
        atoms.set_initial_magnetic_moments(None)
        atoms.info |= {"name": f"molecule {k}", "mol": k % 3}
        if name == "O2":
            atoms.info["multiplicity"] = 3
        if name == "OH":
            atoms.info["charge"] = -1
        made.append(atoms)
    made.append(ase.Atoms("H", info={"config_type": "IsolatedAtom"}))
    made.append(bulk("NaCl", "rocksalt", a=5.64))
    for k, atoms in enumerate(made):
        atoms.calc = SinglePointCalculator(atoms, energy=-10.0 - k, forces=rng.normal(size=(len(atoms), 3)))
    return made


def extxyz(path: Path) -> None:
    ase.io.write(path, structures())


def trajectory(path: Path) -> None:
    ase.io.write(path, structures())


def database(path: Path) -> None:
    with ase.db.connect(path) as connected:
        for atoms in structures():
            pairs = {key: value for key, value in atoms.info.items() if key != "charge"}
            connected.write(atoms, key_value_pairs=pairs, data={"charge": atoms.info.get("charge", 0)})


def crystal(path: Path) -> None:
    ase.io.write(path, bulk("NaCl", "rocksalt", a=5.64))


def sdf(path: Path) -> None:
    from rdkit import Chem

    from neural_polarization.structures.smiles import embedded_molecule

    blocks = [Chem.MolToMolBlock(embedded_molecule(smiles, "valid")) for smiles in ("O", "CO", "[NH4+]")]
    fields = (">  <energy>\n-10.5\n\n", "", ">  <charge>\n1\n\n")
    path.write_text("".join(f"{block}{field}$$$$\n" for block, field in zip(blocks, fields, strict=True)))


def smiles(path: Path) -> None:
    path.write_text("# some molecules\nO water\nCC ethane\nC[N+](C)(C)C\n[CH3] methyl\n")


def packed_arrays() -> dict[str, np.ndarray]:
    """The arrays of a packed file."""
    atoms = [molecule(name) for name in MOLECULES]
    sizes = np.array([len(one) for one in atoms])
    return {
        "n_atoms": sizes,
        "atomic_numbers": np.concatenate([one.numbers for one in atoms]),
        "positions": np.concatenate([one.positions for one in atoms]),
        "charge": np.array([0, 0, 1, 0]),
        "spin": np.array([0, 0, 1, 0]),
        "molecule": np.arange(4),
        "split": np.array([0, 0, 1, 2]),
        "energy": -np.arange(4.0) - 10.0,
        "forces": np.random.default_rng(0).normal(size=(int(sizes.sum()), 3)),
        "properties": np.array(
            json.dumps(
                {
                    "energy": {"unit": "meV", "shape": [], "per_atom": False},
                    "forces": {"unit": "meV/Angstrom", "shape": [3], "per_atom": True},
                }
            )
        ),
    }


def packed(path: Path) -> None:
    np.savez(path, **packed_arrays())


def packed_qm9(path: Path) -> None:
    arrays = {key: packed_arrays()[key] for key in ("n_atoms", "atomic_numbers", "positions")}
    np.savez(path, index=np.arange(1, 5), gap=np.linspace(0.2, 0.5, 4), mu=np.linspace(0, 2, 4), **arrays)


def rmd17(path: Path) -> None:
    atoms = molecule("CH3OH")
    rng = np.random.default_rng(0)
    frames = np.stack([atoms.positions + 0.02 * rng.normal(size=(6, 3)) for _ in range(5)])
    np.savez(path, nuclear_charges=atoms.numbers, coords=frames, energies=rng.normal(size=5), forces=0.1 * frames)


def labels(path: Path) -> None:
    unsealed = path.with_name("unsealed.h5")
    unsealed_labels(unsealed)
    copy_with_room(unsealed, path)
    seal(path)


def unsealed_labels(path: Path) -> None:
    """As release 0.1.0 wrote them, without a checksum."""
    with h5py.File(path, "w") as file:
        file.attrs.update(format="neural-polarization labels 1", level="HF/STO-3G", accuracy="{}", field="[0, 0, 0]")
        for k, name in enumerate(MOLECULES):
            atoms = molecule(name)
            group = file.create_group(f"structures/{k:020x}")
            group["numbers"], group["positions"] = atoms.numbers, atoms.positions
            group["energy"], group["forces"] = -10.0 - k, 0.1 * atoms.positions
            info = json.dumps({"smiles": name, "charge": 0})
            group.attrs.update(order=k, formula=name, info=info, seconds=1.0, reason="", status="done")


def qm9_archive(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for k, name in enumerate(MOLECULES, 1):
            atoms = molecule(name)
            numbers = "\t".join(f"{0.1 * n}" for n in range(15))
            lines = [
                "\t".join([symbol, *(f"{x:.6f}" for x in point), "0.1"])
                for symbol, point in zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True)
            ]
            text = "\n".join(
                [str(len(atoms)), f"gdb {k}\t{numbers}", *lines, "100.0\t200.0", "C\tC", "InChI=1S\tInChI=1S\n"]
            )
            member = tarfile.TarInfo(f"dsgdb9nsd_{k:06d}.xyz")
            member.size = len(text)
            archive.addfile(member, BytesIO(text.encode()))


def configuration(path: Path) -> None:
    path.write_text(
        "name: run\noutput: runs/run\ndata:\n  format: extxyz\n  path: set.xyz\n  properties: &labels\n"
        "    energy: {source: E, unit: hartree}\n    forces: {unit: eV/Angstrom}\n  split: {kind: random, train: 0.8}\n"
        "model:\n  elements: [H, C, O]\n  heads:\n    energy: {kind: extensive, forces: true}\n"
        "  backbone: {name: painn, channels: 16, num_layers: 2}\ntraining:\n  epochs: 20\n  learning_rate: 1e-3\n"
    )


def split(path: Path) -> None:
    path.write_text('{"by": "structure", "content_hash": "", "train": [0, 1], "validation": [2], "test": [3]}\n')


def checkpoint(path: Path) -> None:
    import torch

    from neural_polarization.architectures import BackboneConfig
    from neural_polarization.checkpoints import save_model
    from neural_polarization.models import HeadConfig, Model, ModelConfig

    torch.manual_seed(0)
    heads = {"energy": HeadConfig("extensive", forces=True)}
    save_model(Model(ModelConfig(("H", "C", "O"), heads, BackboneConfig(channels=4, num_layers=1))), path)


VALID: Mapping[str, tuple[str, Callable[[Path], None]]] = MappingProxyType(
    {
        "extended XYZ": ("set.xyz", extxyz),
        "SDF": ("set.sdf", sdf),
        "SMILES": ("set.smi", smiles),
        "ASE database": ("set.db", database),
        "ASE JSON": ("set.json", database),
        "ASE trajectory": ("set.traj", trajectory),
        "POSCAR": ("POSCAR", crystal),
        "CIF": ("set.cif", crystal),
        "packed npz": ("packed.npz", packed),
        "QM9 npz": ("qm9.npz", packed_qm9),
        "rMD17 npz": ("rmd17.npz", rmd17),
        "HDF5 labels": ("labels.h5", labels),
        "HDF5 labels of 0.1": ("labels.h5", unsealed_labels),
        "QM9 archive": ("qm9.tar", qm9_archive),
        "YAML": ("run.yaml", configuration),
        "split": ("split.json", split),
        "checkpoint": ("model.safetensors", checkpoint),
    }
)
"""Every format: the name of its file, and what writes a valid one."""
