"""Free atoms: spherical densities of B3LYP/6-31G(2df,p) as sums of s functions, from a table in the package.

The atoms are those that Hirshfeld's charges are made with; `experiments/density/free_atoms.py` makes the table.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import cast

import torch
from ase.data import atomic_numbers as atomic_number_of
from ase.data import chemical_symbols
from jaxtyping import Float
from torch import Tensor

from neural_polarization.density.density import Density, Nuclei
from neural_polarization.density.expansion import Gaussians
from neural_polarization.density.gaussians import charge_of_s

_TABLE = Path(__file__).with_name("free_atoms.json")


@lru_cache(maxsize=1)
@torch.inference_mode(False)  # the tensors outlive the call, and may be differentiated through
def _table() -> dict[int, tuple[Float[Tensor, " functions"], Float[Tensor, " functions"]]]:
    """Exponents and coefficients of every atom by its atomic number, float64."""
    atoms = cast(dict[str, dict[str, list[float]]], json.loads(_TABLE.read_text(encoding="utf-8"))["atoms"])
    table: dict[int, tuple[Tensor, Tensor]] = {}
    for symbol, atom in atoms.items():
        exponents = torch.tensor(atom["exponents"], dtype=torch.float64)
        electrons = torch.tensor(atom["electrons"], dtype=torch.float64)
        # The table is rounded; the last correction makes the count exact.
        electrons = electrons * (atomic_number_of[symbol] / electrons.sum())
        table[atomic_number_of[symbol]] = (exponents, electrons / charge_of_s(exponents))
    return table


def known_elements() -> tuple[str, ...]:
    """Chemical symbols of the atoms in the table."""
    return tuple(chemical_symbols[number] for number in _table())


def free_atoms(nuclei: Nuclei) -> tuple[Gaussians, ...]:
    """Functions of the free atoms on their nuclei, float64, so that the electrons add up to the nuclear charges.

    Raises:
        ValueError: for an element that the table does not have.

    Example:
        >>> atom = Nuclei(torch.tensor([6]), torch.zeros(1, 3), torch.tensor([0]), 1)
        >>> round(Density(free_atoms(atom), atom).electrons.item(), 9)
        6.0
    """
    parts: list[Gaussians] = []
    for number in torch.unique(nuclei.atomic_numbers).tolist():
        if number not in _table():
            raise ValueError(
                f"{chemical_symbols[number]}: there is no free atom of this element, only of "
                f"{', '.join(known_elements())}; add it to experiments/density/free_atoms.py and make the table again"
            )
        here = (nuclei.atomic_numbers == number).nonzero()[:, 0]
        exponents, coefficients = (value.to(nuclei.positions.device) for value in _table()[number])
        parts.append(
            Gaussians(
                nuclei.positions[here].double(),
                nuclei.molecule_index[here],
                (exponents.expand(len(here), -1),),
                (coefficients.unsqueeze(-1).expand(len(here), -1, -1),),
            )
        )
    return tuple(parts)


def free_atom_density(nuclei: Nuclei) -> Density:
    """The sum of free atoms, which deformation densities are measured against.

    Raises:
        ValueError: for an element that the table does not have.
    """
    return Density(free_atoms(nuclei), nuclei)
