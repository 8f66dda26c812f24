"""All chemically valid molecules of C, N, O and F up to a size, as SMILES and as structures."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np

from ..errors import DataError
from ..structures.smiles import embedded_molecule
from .displacement import ForceField, thermal_frames

_VALENCE = {"C": 4, "N": 3, "O": 2, "F": 1}
_BOND_ORDERS = (1, 2, 3)


@dataclass(frozen=True)
class Sampling:
    """Settings of the structures that are drawn for each molecule.

    Attributes:
        frames: Number of structures per molecule. The first is relaxed, the others are thermally displaced.
        temperature: Temperature of the displacements, kelvin.
        seed: Seed of the embedding and of the displacements.
    """

    frames: int = 8
    temperature: float = 500.0
    seed: int = 0


def enumerate_smiles(heavy_atoms: int, strained: bool = False) -> list[str]:
    """Every neutral closed-shell molecule of C, N, O, F and H with 1 to `heavy_atoms` heavy atoms.

    Molecules grow as trees, atom by atom with bonds of order 1 to 3, and then rings are closed on every tree. Equal
    molecules are recognised by their canonical SMILES. Each atom has its ordinary valence (C 4, N 3, O 2, F 1), which
    hydrogen atoms fill up. Stereoisomers are not distinguished. O=O is left out, because its ground state is a triplet.

    Args:
        heavy_atoms: Largest number of heavy atoms, at least 1. Each atom more gives about ten times as many molecules.
        strained: Whether to keep rings of fewer than eight atoms with a triple bond or cumulated double bonds.

    Returns:
        SMILES, sorted by size and then alphabetically.

    Raises:
        ValueError: for fewer than one heavy atom.
        ImportError: without RDKit.
    """
    if heavy_atoms < 1:
        raise ValueError(f"heavy_atoms: expected at least 1, got {heavy_atoms}")
    chem = _rdkit()
    trees = {chem.MolToSmiles(chem.MolFromSmiles(element)) for element in _VALENCE}
    found: list[str] = []
    for size in range(1, heavy_atoms + 1):
        if size > 1:
            trees = set(_grown(trees))
        complete = _closed(trees)
        found += sorted(smiles for smiles in complete if smiles != "O=O" and (strained or not _strained(smiles)))
    return found


def choose(smiles: Sequence[str], smallest: int = 1, largest_sample: int | None = None, seed: int = 0) -> list[str]:
    """A part of an enumeration.

    Args:
        smiles: SMILES from `enumerate_smiles`.
        smallest: Smallest number of heavy atoms of the molecules that are kept.
        largest_sample: Number of molecules that are kept, at random, of those with the most heavy atoms.
        seed: Seed of the random choice.
    """
    chem = _rdkit()
    sizes = [int(chem.MolFromSmiles(name).GetNumHeavyAtoms()) for name in smiles]
    most = max(sizes, default=0)
    kept = [name for name, size in zip(smiles, sizes, strict=True) if smallest <= size < most]
    largest = [name for name, size in zip(smiles, sizes, strict=True) if smallest <= size == most]
    if largest_sample is not None and largest_sample < len(largest):
        drawn = np.random.default_rng(seed).choice(len(largest), largest_sample, replace=False)
        largest = [largest[index] for index in sorted(drawn)]
    return kept + largest


def structures(
    smiles: Sequence[str], sampling: Sampling, relax: Callable[[ase.Atoms], ase.Atoms] | None = None
) -> list[ase.Atoms]:
    """Relaxed and displaced structures in rounds: one frame of each molecule, then the next frame of each.

    Any beginning of the list is therefore a balanced set. `atoms.info` holds "smiles", "molecule" (the place in
    `smiles`), "frame" (0 is relaxed) and "heavy_atoms". Molecules that cannot be embedded (some bicycles) are left out.

    Args:
        smiles: SMILES of the molecules.
        sampling: Frames, temperature, seed.
        relax: Function that moves a structure to a better minimum than that of the force field. Frames are displaced
            from there, with the curvature of the force field.
    """
    per_molecule: list[list[ase.Atoms]] = []
    for molecule, name in enumerate(smiles):
        seed = sampling.seed + molecule
        try:
            embedded = embedded_molecule(name, name, seed + 1)
        except DataError:
            continue
        field = ForceField(embedded)
        if relax is not None:
            field.move_to(relax(field.atoms()).positions)
        frames = thermal_frames(field, sampling.frames, sampling.temperature, seed)
        for frame, atoms in enumerate(frames):
            atoms.info.update(
                smiles=name,
                molecule=molecule,
                frame=frame,
                heavy_atoms=int(np.count_nonzero(atoms.numbers > 1)),
            )
        per_molecule.append(frames)
    return [frames[k] for k in range(sampling.frames) for frames in per_molecule if k < len(frames)]


def _grown(trees: Iterable[str]) -> set[str]:
    chem = _rdkit()
    grown: set[str] = set()
    for smiles in trees:
        molecule = chem.MolFromSmiles(smiles)
        for atom in molecule.GetAtoms():
            for element, valence in _VALENCE.items():
                for order in _BOND_ORDERS:
                    if order > min(valence, atom.GetTotalNumHs()):
                        continue
                    edited = chem.RWMol(molecule)
                    new = edited.AddAtom(chem.Atom(element))
                    edited.AddBond(atom.GetIdx(), new, _bond(order))
                    grown.add(_canonical(edited))
    return grown


def _closed(trees: Iterable[str]) -> set[str]:
    """The trees, and every molecule that further bonds between their atoms give."""
    chem = _rdkit()
    found, edge = set(trees), set(trees)
    while edge:
        closed: set[str] = set()
        for smiles in edge:
            molecule = chem.MolFromSmiles(smiles)
            chem.Kekulize(molecule, clearAromaticFlags=True)
            atoms = list(molecule.GetAtoms())
            for i, first in enumerate(atoms):
                for second in atoms[i + 1 :]:
                    if molecule.GetBondBetweenAtoms(first.GetIdx(), second.GetIdx()):
                        continue
                    for order in _BOND_ORDERS:
                        if order > min(first.GetTotalNumHs(), second.GetTotalNumHs()):
                            continue
                        edited = chem.RWMol(molecule)
                        edited.AddBond(first.GetIdx(), second.GetIdx(), _bond(order))
                        closed.add(_canonical(edited))
        edge = closed - found
        found |= closed
    return found


def _canonical(edited: Any) -> str:
    chem = _rdkit()
    for atom in edited.GetAtoms():
        atom.SetNoImplicit(False)
        atom.SetNumExplicitHs(0)
    chem.SanitizeMol(edited)
    return chem.MolToSmiles(edited)


def _strained(smiles: str) -> bool:
    chem = _rdkit()
    molecule = chem.MolFromSmiles(smiles)
    patterns = ("[*;r3,r4,r5,r6,r7]#[*;r3,r4,r5,r6,r7]", "[*]=[*;r3,r4,r5,r6,r7]=[*]")
    return any(molecule.HasSubstructMatch(chem.MolFromSmarts(pattern)) for pattern in patterns)


def _bond(order: int) -> Any:
    chem = _rdkit()
    return {1: chem.BondType.SINGLE, 2: chem.BondType.DOUBLE, 3: chem.BondType.TRIPLE}[order]


def _rdkit() -> Any:
    try:
        from rdkit import Chem
    except ImportError:
        raise ImportError("molecules from SMILES need RDKit: pip install 'neural-polarization[smiles]'") from None
    return Chem
