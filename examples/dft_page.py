"""A page of molecules with the electrons of a DFT calculation: `python examples/dft_page.py O C=O NC=O -o page.html`.

Needs the extras `dft` and `smiles`. The moving points of this page do not come from a network: each is the mean centre
of the localized orbitals of its atom (core and lone pairs count whole, bonds half).
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from pyscf import df, dft, gto
from pyscf.scf import hf
from rdkit import Chem
from rdkit.Chem import AllChem

from neural_polarization.labelling.properties.orbitals import centroids
from neural_polarization.units import BOHR, DEBYE, HARTREE
from neural_polarization.view import Grid, Scene, write_page

BASIS = "6-31G**"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("smiles", nargs="+", help="molecules or ions")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the page (.html)")
    parser.add_argument("--spacing", type=float, default=0.2, help="of the grid, Angstrom")
    parser.add_argument("--overwrite", action="store_true", help="replace a page that is there")
    arguments = parser.parse_args()
    scenes = [scene_of_smiles(smiles, arguments.spacing) for smiles in arguments.smiles]
    write_page(scenes, arguments.output, overwrite=arguments.overwrite)


def scene_of_smiles(smiles: str, spacing: float) -> Scene:
    """The B3LYP density of a molecule in the geometry of the force field MMFF94."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    AllChem.MMFFOptimizeMolecule(molecule)
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    positions = molecule.GetConformer().GetPositions()
    charge = Chem.GetFormalCharge(molecule)
    return scene_of(smiles, numbers, positions - positions.mean(axis=0), charge, spacing)


def scene_of(title: str, numbers: np.ndarray, positions: np.ndarray, charge: int, spacing: float) -> Scene:
    """Density, deformation density, potential, dipole and orbital centres of a closed-shell molecule."""
    mol = gto.M(atom=list(zip(numbers.tolist(), positions, strict=True)), basis=BASIS, charge=charge, verbose=0)
    scf = dft.RKS(mol, xc="b3lypg").density_fit().run()
    density_matrix = scf.make_rdm1()
    origin, shape = box(positions, spacing)
    steps = spacing * np.eye(3)
    points = (origin + np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) @ steps).reshape(-1, 3)
    total = density(mol, density_matrix, points)
    free = density(mol, hf.init_guess_by_atom(mol), points)

    def grid(values: np.ndarray) -> Grid:
        return Grid(origin, steps, values.reshape(shape))

    dipole = np.asarray(scf.dip_moment(unit="Debye", verbose=0)) * DEBYE
    populations, charges = scf.mulliken_pop(verbose=0)
    assert len(populations) == mol.nao
    return Scene(
        title=title,
        atomic_numbers=numbers,
        positions=positions,
        charge=charge,
        moving_points=orbital_centres(scf, positions)[None],
        density=grid(total),
        deformation=grid(total - free),
        potential=grid(potential(mol, density_matrix, points)),
        dipole=dipole,
        charges=np.asarray(charges),
        properties={
            "level": f"B3LYP/{BASIS}",
            "energy": f"{scf.e_tot * HARTREE:.3f} eV",
            "dipole": f"{np.linalg.norm(dipole) / DEBYE:.2f} D",
            "atomic charges": "Mulliken",
            "moving points": "centres of Foster-Boys orbitals, not from a network",
        },
    )


def box(positions: np.ndarray, spacing: float, margin: float = 3.2) -> tuple[np.ndarray, tuple[int, ...]]:
    """Origin and shape of a grid around a molecule; the surface of 0.002 e/bohr^3 lies well inside."""
    origin = positions.min(axis=0) - margin
    return origin, tuple(np.ceil((positions.max(axis=0) + margin - origin) / spacing).astype(int) + 1)


def density(mol: Any, density_matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Density at points (Angstrom), e/Angstrom^3."""
    blocks = np.array_split(points / BOHR, max(1, len(points) // 10000))
    return (
        np.concatenate([dft.numint.eval_rho(mol, mol.eval_gto("GTOval", b), density_matrix) for b in blocks]) / BOHR**3
    )


def potential(mol: Any, density_matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Electrostatic potential at points (Angstrom), V; the electrons' part through a fitted density."""
    auxiliary = df.make_auxmol(mol, "def2-universal-jkfit")
    three = df.incore.aux_e2(mol, auxiliary, aosym="s1")
    metric = auxiliary.intor("int2c2e")
    fitted = np.linalg.solve(metric, np.einsum("ijp,ij->p", three, density_matrix))
    values: list[np.ndarray] = []
    for block in np.array_split(points / BOHR, max(1, len(points) // 5000)):
        distances = np.linalg.norm(block[:, None] - mol.atom_coords()[None], axis=-1)
        probe = gto.fakemol_for_charges(block)
        electrons = gto.mole.intor_cross("int2c2e", auxiliary, probe).T @ fitted
        values.append(np.sum(mol.atom_charges() / np.maximum(distances, 0.05), axis=1) - electrons)
    return np.concatenate(values) * HARTREE


def orbital_centres(scf: Any, positions: np.ndarray) -> np.ndarray:
    """Mean centre of every atom's localized orbitals, (atoms, 3), Angstrom; a bond counts half for either atom.

    A hydrogen has no orbital that is mostly its own: it takes part in that whose centre is nearest to it.
    """
    centres = centroids(scf).positions
    numbers = scf.mol.atom_charges()
    nearest = np.linalg.norm(centres[:, None] - positions[None], axis=-1)
    owners: list[set[int]] = [set() for _ in centres]
    for n, hydrogen in enumerate(numbers == 1):
        if hydrogen:
            owners[int(np.argmin(nearest[:, n]))].add(n)
    for orbital, distances in zip(owners, nearest, strict=True):
        heavy = [int(n) for n in np.argsort(distances) if numbers[n] > 1]
        # Nearly as far from the second atom: a bond of the two. Otherwise a core or a lone pair, or a bond to hydrogen.
        shared = len(heavy) > 1 and not orbital and distances[heavy[1]] < 1.0
        orbital.update(heavy[: 2 if shared else 1])
    total, weight = np.zeros_like(positions), np.zeros(len(positions))
    for centre, orbital in zip(centres, owners, strict=True):
        for owner in orbital:
            total[owner] += centre / len(orbital)
            weight[owner] += 1 / len(orbital)
    return total / weight[:, None]


if __name__ == "__main__":
    main()
