"""Chooses the molecules of `data/ordinary_molecules.npz` and writes their structures, one file per round of labelling.

    python experiments/labelling/density_molecules.py FOLDER

The molecules are ordinary ones: those of `npol enumerate`, and larger ones grown from them, without groups that exist
on paper only (`UNUSUAL`) and without the molecules of `data/small_molecules.npz`. Structures are minima of the force
field MMFF94, displaced as at 300, 400 or 500 K.
"""

import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import ase
import numpy as np
from ase.io import write
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers

from neural_polarization.labelling.displacement import ForceField, thermal_frames
from neural_polarization.labelling.enumeration import enumerate_smiles
from neural_polarization.structures import embedded_molecule

UNUSUAL = (
    "[#7,#8]~F",
    "[#8]~[#8]",
    "[#7]~[#7]~[#7]",
    "[#7]~[#7]~[#8]",
    "[#8]~[#7]~[#8]",
    "[CX2](#C)~[#7,#8,F]",
    "*=*=*=*",
    "[R]#[R]",
    "[R]=[R]=[R]",
    "[r3]=*",
    "[r3;!R1]",
    "[r4;!R1]",
    "*1=**=*1",
    "[#7]=[#7;!H0]",
    "[#7]1[#7,#8]*1",
    "[#7]1~[#7]~[#7,#8]~*1",
    "[#6,#7]=[#6]=[#7;!$(N=C=O)]",
    "[CX4]([#7,#8,F])([#7,#8,F])[#7,#8]",
)
"""Groups that are left out: chains of electronegative atoms, multiple bonds in small rings, bicycles of small rings."""

LABILE = (
    "[OX2;H1]C=[C,N]",
    "[NX3;!H0]C=[C;!$(C-[C,N]=[O,N])]",
    "[CX4]([OX2H1,NX3H2])[#7,#8,F]",
    "[#7]=[#6]=[#6]",
    "[#7;!H0]=[#6;!$(C-[#7])]",
    "[CX4;H1,H2](F)[#7,#8]",
)
"""Groups that rearrange or fall apart in a flask (enols, hemiacetals): molecules that come second."""

LARGER = ((6, 24), (7, 12), (8, 6))
"""Heavy atoms and number of the larger molecules, which are all in the test part."""

SUBSTITUTED = 120
"""Molecules in which sulphur takes the place of one oxygen atom, or chlorine that of one fluorine atom."""


@lru_cache
def _patterns(smarts: tuple[str, ...]) -> tuple[Chem.Mol, ...]:
    return tuple(Chem.MolFromSmarts(pattern) for pattern in smarts)


def has_any(smiles: str, smarts: tuple[str, ...]) -> bool:
    """Whether a molecule has one of the groups."""
    molecule = Chem.MolFromSmiles(smiles)
    return any(molecule.HasSubstructMatch(pattern) for pattern in _patterns(smarts))


def ordinary(smiles: str) -> bool:
    """Whether a molecule has none of the unusual groups, and the force field knows all its atoms."""
    hydrogenated = Chem.AddHs(Chem.MolFromSmiles(smiles))
    return not has_any(smiles, UNUSUAL) and bool(rdForceFieldHelpers.MMFFHasAllMoleculeParams(hydrogenated))


def heavy_atoms(smiles: str) -> int:
    """Number of atoms other than hydrogen."""
    return int(Chem.MolFromSmiles(smiles).GetNumHeavyAtoms())


def shuffled(names: Iterable[str], generator: np.random.Generator) -> list[str]:
    """The names in random order, those without labile groups first."""
    ordered = sorted(names)
    mixed = [ordered[index] for index in generator.permutation(len(ordered))]
    return sorted(mixed, key=lambda name: has_any(name, LABILE))


def grown(names: Iterable[str]) -> set[str]:
    """The ordinary molecules with a methyl, amino or hydroxyl group or fluorine in place of one hydrogen atom."""
    found: set[str] = set()
    for name in names:
        for index in range(heavy_atoms(name)):
            for element in (6, 7, 8, 9):
                molecule = Chem.RWMol(Chem.MolFromSmiles(name))
                atom = molecule.GetAtomWithIdx(index)
                if atom.GetTotalNumHs() == 0:
                    continue
                atom.SetNumExplicitHs(0)
                molecule.AddBond(index, molecule.AddAtom(Chem.Atom(element)), Chem.BondType.SINGLE)
                Chem.SanitizeMol(molecule)
                found.add(Chem.MolToSmiles(molecule))
    return {name for name in found if ordinary(name) and not has_any(name, LABILE)}


def substituted(names: Iterable[str]) -> set[str]:
    """The ordinary molecules with sulphur for one oxygen, or chlorine for one fluorine."""
    found: set[str] = set()
    for name in names:
        for index in range(heavy_atoms(name)):
            molecule = Chem.RWMol(Chem.MolFromSmiles(name))
            atom = molecule.GetAtomWithIdx(index)
            if atom.GetAtomicNum() in (8, 9):
                atom.SetAtomicNum(atom.GetAtomicNum() + 8)
                Chem.SanitizeMol(molecule)
                found.add(Chem.MolToSmiles(molecule))
    return {name for name in found if ordinary(name) and not has_any(name, LABILE)}


def frames(name: str, generator: np.random.Generator) -> list[ase.Atoms]:
    """A displaced frame, number 1, and the relaxed one, number 0; nothing where embedding or displacing fails."""
    seed = int(generator.integers(2**31 - 1))
    temperature = float(generator.choice([300.0, 400.0, 500.0]))
    try:
        field = ForceField(embedded_molecule(name, name, seed))
        relaxed, displaced = thermal_frames(field, 2, temperature, seed)
    except ValueError:
        return []
    for frame, atoms in ((0, relaxed), (1, displaced)):
        atoms.info.update(smiles=name, frame=frame, heavy_atoms=int(np.count_nonzero(atoms.numbers > 1)))
    return [displaced, relaxed]


def write_round(path: Path, names: Sequence[str], generator: np.random.Generator, split: str = "") -> list[ase.Atoms]:
    """One file with a displaced frame of each molecule; returns the relaxed frames of every third."""
    made = [pair for pair in (frames(name, generator) for name in names) if pair]
    for atoms in (atoms for pair in made for atoms in pair):
        if split:
            atoms.info["split"] = split
    write(path, [displaced for displaced, _ in made], format="extxyz")
    print(f"{path}: {len(made)} molecules", file=sys.stderr)
    return [relaxed for _, relaxed in made[::3]]


def main(folder: Path) -> None:
    """Write the files of structures."""
    generator = np.random.default_rng(16)
    known = set(np.load("data/small_molecules.npz")["smiles"].tolist())
    everything = [name for name in enumerate_smiles(5) if ordinary(name)]
    new = [name for name in everything if name not in known]
    relaxed: list[ase.Atoms] = []
    fours = shuffled((name for name in new if heavy_atoms(name) == 4), generator)
    relaxed += write_round(folder / "four.extxyz", fours, generator)
    fives = shuffled((name for name in new if heavy_atoms(name) == 5), generator)
    relaxed += write_round(folder / "five.extxyz", fives, generator)
    larger: list[str] = []
    parents = fives[:60]
    for _, number in LARGER:
        parents = shuffled(grown(parents), generator)[:60]
        larger += parents[:number]
    relaxed += write_round(folder / "larger.extxyz", larger, generator, split="test")
    small = substituted(name for name in everything if heavy_atoms(name) <= 4)
    write_round(folder / "sulphur_chlorine.extxyz", shuffled(small, generator)[:SUBSTITUTED], generator)
    write(folder / "relaxed.extxyz", relaxed, format="extxyz")
    print(f"{folder / 'relaxed.extxyz'}: {len(relaxed)} structures", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
