"""Structures from files and SMILES, with errors that name the line or the molecule."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import ase
import ase.io
import numpy as np

_SEED = 0xF00D  # embeddings are random: the same SMILES gives the same structure


def read_structures(path: str | Path) -> list[ase.Atoms]:
    """All structures of a file, whose kind its ending tells.

    `info["name"]` is the title of a molecule in SDF and SMILES files, `info["smiles"]` its SMILES.

    Args:
        path: .xyz or .extxyz, .sdf or .mol, .smi (one SMILES per line, a name after it).

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: for SDF and SMILES without RDKit.
        ValueError: for an unknown ending, a damaged file, or a molecule that cannot be understood.
    """
    path = Path(path)
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{path}: unknown kind of file; the ending must be one of {', '.join(READERS)}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; give a file of structures, or --smiles")
    structures = READERS[path.suffix.lower()](path)
    if not structures:
        raise ValueError(f"{path}: holds no structure")
    return structures


def from_smiles(smiles: str, place: str = "--smiles") -> ase.Atoms:
    """A structure of a SMILES: embedded by RDKit and relaxed with MMFF (UFF where MMFF has no parameters).

    Args:
        smiles: of a molecule; its formal charge becomes `info["charge"]`.
        place: what errors begin with.

    Raises:
        ImportError: without RDKit.
        ValueError: if RDKit does not understand it or finds no structure.
    """
    chem, embedding = _rdkit()
    molecule = chem.MolFromSmiles(smiles)
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise ValueError(f"{place}: {smiles!r} is not a SMILES that RDKit understands; check brackets and valences")
    molecule = chem.AddHs(molecule)
    failed = embedding.EmbedMolecule(molecule, randomSeed=_SEED) and embedding.EmbedMolecule(
        molecule, randomSeed=_SEED, useRandomCoords=True
    )
    if failed:
        raise ValueError(f"{place}: no structure was found for {smiles!r}; give coordinates in an xyz or sdf file")
    if embedding.MMFFHasAllMoleculeParams(molecule):
        embedding.MMFFOptimizeMolecule(molecule, maxIters=2000)
    elif embedding.UFFHasAllMoleculeParams(molecule):
        embedding.UFFOptimizeMolecule(molecule, maxIters=2000)
    return _to_ase(molecule, {"smiles": smiles})


def _read_xyz(path: Path) -> list[ase.Atoms]:
    problems: list[str] = []
    # Comment lines of plain xyz files are free text, on which the reader of extended ones can stumble.
    for kind in ("extxyz", "xyz"):
        try:
            frames = ase.io.read(path, index=":", format=kind)
            return frames if isinstance(frames, list) else [frames]
        except Exception as error:  # ASE's readers raise whatever parsing raises
            problems.append(" ".join(str(error).split()) or type(error).__name__)
    raise ValueError(f"{path}: not a readable xyz file ({problems[0]}); check the number of atoms in each first line")


def _read_sdf(path: Path) -> list[ase.Atoms]:
    chem, _ = _rdkit()
    structures: list[ase.Atoms] = []
    for number, molecule in enumerate(chem.SDMolSupplier(str(path), removeHs=False)):
        if molecule is None:
            raise ValueError(f"{path}: RDKit does not understand molecule {number + 1}; correct it or leave it out")
        if molecule.GetNumConformers() == 0 or not molecule.GetConformer().Is3D():
            raise ValueError(
                f"{path}: molecule {number + 1} has no three-dimensional coordinates; give its SMILES instead"
            )
        title = molecule.GetProp("_Name") if molecule.HasProp("_Name") else ""
        structures.append(_to_ase(molecule, {"name": title} if title else {}))
    return structures


def _read_smiles(path: Path) -> list[ase.Atoms]:
    return list(_of_lines(path, path.read_text(encoding="utf-8").splitlines()))


def _of_lines(path: Path, lines: Sequence[str]) -> Iterator[ase.Atoms]:
    for number, line in enumerate(lines, start=1):
        words = line.split(maxsplit=1)
        if not words or words[0].startswith("#"):
            continue
        atoms = from_smiles(words[0], f"{path}, line {number}")
        if len(words) > 1:
            atoms.info["name"] = words[1].strip()
        yield atoms


READERS: dict[str, Callable[[Path], list[ase.Atoms]]] = {
    ".xyz": _read_xyz,
    ".extxyz": _read_xyz,
    ".sdf": _read_sdf,
    ".mol": _read_sdf,
    ".smi": _read_smiles,
}
"""Every kind of file by its ending."""


def _to_ase(molecule: Any, info: dict[str, Any]) -> ase.Atoms:
    chem, _ = _rdkit()
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    charge = int(chem.GetFormalCharge(molecule))
    positions = np.asarray(molecule.GetConformer().GetPositions(), dtype=np.float64)
    return ase.Atoms(numbers, positions, info={**info, **({"charge": charge} if charge else {})})


def _rdkit() -> tuple[ModuleType, ModuleType]:
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import AllChem
    except ImportError:
        raise ImportError(
            "SMILES and SDF need RDKit, which is not installed: pip install 'neural-polarization[smiles]'"
        ) from None
    # What RDKit does not understand becomes an error of ours; its own report on top would be noise.
    rdBase.DisableLog("rdApp.*")
    return Chem, AllChem
