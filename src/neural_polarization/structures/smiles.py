"""Structures of SMILES: embedded and relaxed in a force field by RDKit."""

from functools import lru_cache
from typing import Any

import ase
import numpy as np

from neural_polarization.errors import DataError


def embedded_molecule(smiles: str, where: str, seed: int = 0) -> Any:
    """An RDKit molecule with hydrogens and one conformer, relaxed in MMFF94 or, where that lacks parameters, UFF.

    Args:
        smiles: of one molecule; where its parts stand that no bond connects, embedding cannot know.
        where: what errors begin with.
        seed: of the embedding.

    Raises:
        DataError: for a SMILES that cannot be read or embedded, or that has several fragments.
        ImportError: without RDKit.
    """
    chem, all_chem = rdkit()
    plain = chem.MolFromSmiles(smiles)
    if plain is None or plain.GetNumAtoms() == 0:
        raise DataError(f"{where}: SMILES {smiles!r} cannot be read by RDKit; are valences and ring closures right?")
    fragments = len(chem.GetMolFrags(plain))
    if fragments > 1:
        raise DataError(
            f"{where}: SMILES {smiles!r} has {fragments} fragments, which would be put on top of each other; give one "
            "molecule, or a complex as .xyz"
        )
    molecule = chem.AddHs(plain)
    # Large rings, cages and chains are found from random positions only.
    if (
        all_chem.EmbedMolecule(molecule, randomSeed=seed) != 0
        and all_chem.EmbedMolecule(molecule, randomSeed=seed, useRandomCoords=True) != 0
    ):
        raise DataError(
            f"{where}: no three-dimensional structure was found for SMILES {smiles!r}; give it as .xyz or .sdf"
        )
    field = force_field(molecule)
    for _ in range(20):
        if field.Minimize(maxIts=1000, forceTol=1e-6, energyTol=1e-10) == 0:
            break
    return molecule


def force_field(molecule: Any) -> Any:
    """RDKit's MMFF94 for a molecule with a conformer, or UFF where MMFF94 lacks parameters."""
    _, all_chem = rdkit()
    if all_chem.MMFFHasAllMoleculeParams(molecule):
        field = all_chem.MMFFGetMoleculeForceField(molecule, all_chem.MMFFGetMoleculeProperties(molecule))
    else:
        field = all_chem.UFFGetMoleculeForceField(molecule)
    field.Initialize()
    return field


def molecule_atoms(molecule: Any, where: str = "molecule") -> ase.Atoms:
    """The structure of an RDKit molecule: its charge, its unpaired electrons, and the masses of isotopes that it names.

    Args:
        molecule: with one conformer.
        where: what the error begins with.

    Raises:
        DataError: for an isotope that there is not.
    """
    rdkit_atoms = list(molecule.GetAtoms())
    atoms = ase.Atoms([atom.GetAtomicNum() for atom in rdkit_atoms], np.array(molecule.GetConformer().GetPositions()))
    if any(atom.GetIsotope() for atom in rdkit_atoms):
        usual = zip(rdkit_atoms, atoms.get_masses(), strict=True)
        masses = [_mass(atom, where) if atom.GetIsotope() else mass for atom, mass in usual]
        atoms.set_array("masses", np.array(masses), float, ())
    charge = sum(atom.GetFormalCharge() for atom in rdkit_atoms)
    spin = sum(atom.GetNumRadicalElectrons() for atom in rdkit_atoms)
    atoms.info.update({name: value for name, value in (("charge", charge), ("spin", spin)) if value})
    return atoms


def _mass(atom: Any, where: str) -> float:
    """Mass of the isotope that an RDKit atom names, amu."""
    chem, _ = rdkit()
    mass = float(chem.GetPeriodicTable().GetMassForIsotope(atom.GetAtomicNum(), atom.GetIsotope()))
    if not mass:
        raise DataError(
            f"{where}: [{atom.GetIsotope()}{atom.GetSymbol()}] is no known isotope; correct its number, or leave it out"
        )
    return mass


@lru_cache(maxsize=200_000)
def canonical_smiles(smiles: str) -> str:
    """One spelling for all SMILES of a molecule, by which its structures are grouped; isotopes are one molecule.

    Where RDKit is missing, or cannot read it, the SMILES is as it stands.

    Example:
        >>> canonical_smiles("OCC"), canonical_smiles("[2H]OC([H])C")
        ('CCO', 'CCO')
    """
    try:
        chem, _ = rdkit()
        from rdkit import rdBase
    except ImportError:
        return smiles
    with rdBase.BlockLogs():
        molecule = chem.MolFromSmiles(smiles)
        if molecule is None:
            return smiles
        for atom in molecule.GetAtoms():
            atom.SetIsotope(0)
        return str(chem.MolToSmiles(chem.RemoveHs(molecule)))


def rdkit() -> tuple[Any, Any]:
    """RDKit's modules Chem and AllChem.

    Raises:
        ImportError: naming the extra that brings it.
    """
    try:
        from rdkit import Chem
        from rdkit.Chem import AllChem
    except ImportError:
        raise ImportError("SMILES and SDF files need RDKit: pip install 'neural-polarization[smiles]'") from None
    return Chem, AllChem
