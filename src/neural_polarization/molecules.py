"""`Molecules`: a typed batch of molecules, and the way from and to ASE."""

import contextlib
import dataclasses
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import ase
import numpy as np
import torch
from ase.data import atomic_numbers as atomic_number_of
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from torch import Tensor

from neural_polarization.geometry import all_pairs, periodic_neighbours

MANY_ATOMS = 300
"""From this size on a structure's neighbours come from cell lists instead of all pairs."""

CLASH = 1e-3
"""Two nuclei closer than this (Angstrom) are one place: an error in the input, not a molecule."""


@dataclass(frozen=True)
class Molecules:
    """A batch of molecules. Input only: no network writes into it.

    Attributes:
        atomic_numbers: nuclear charge of each atom.
        positions: nuclear positions, Angstrom.
        molecule_index: molecule of each atom, ascending from 0.
        edge_index: (senders, receivers), both directions of every pair of nuclei below the cutoff.
        num_molecules: number of molecules.
        shifts: translation (Angstrom) added to each sender in periodic systems, else None.
        charge: total charge of each molecule, e, or None where all are neutral.
        external_field: uniform electric field at each molecule, V/Angstrom, or None.
    """

    atomic_numbers: Int[Tensor, " atoms"]
    positions: Float[Tensor, "atoms 3"]
    molecule_index: Int[Tensor, " atoms"]
    edge_index: Int[Tensor, "2 edges"]
    num_molecules: int
    shifts: Float[Tensor, "edges 3"] | None = None
    charge: Float[Tensor, " molecules"] | None = None
    external_field: Float[Tensor, "molecules 3"] | None = None

    @property
    def num_atoms(self) -> int:
        """Number of atoms in all molecules together."""
        return self.atomic_numbers.shape[0]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Molecules":
        """The same molecules on another device or in another floating-point type."""

        def real(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(device=device, dtype=dtype)

        return dataclasses.replace(
            self,
            atomic_numbers=self.atomic_numbers.to(device),
            positions=self.positions.to(device=device, dtype=dtype),
            molecule_index=self.molecule_index.to(device),
            edge_index=self.edge_index.to(device),
            shifts=real(self.shifts),
            charge=real(self.charge),
            external_field=real(self.external_field),
        )

    def with_positions(self, positions: Float[Tensor, "atoms 3"]) -> "Molecules":
        """The same molecules and neighbours at other positions (Angstrom)."""
        return dataclasses.replace(self, positions=positions)

    @classmethod
    def from_arrays(
        cls,
        atomic_numbers: Int[Tensor, " atoms"],
        positions: Float[Tensor, "atoms 3"],
        cutoff: float,
        sizes: Sequence[int] | None = None,
        charge: Float[Tensor, " molecules"] | None = None,
        external_field: Float[Tensor, "molecules 3"] | None = None,
    ) -> "Molecules":
        """Molecules without periodicity from tensors.

        Args:
            atomic_numbers: nuclear charges, the atoms of each molecule together.
            positions: Angstrom.
            cutoff: Angstrom; nuclei closer than this become neighbours.
            sizes: atoms of each molecule in order; one molecule if left out.
            charge: total charges, e.
            external_field: V/Angstrom.

        Raises:
            ValueError: for an empty molecule, a position that is not finite, an atomic number outside 1..118,
                two atoms at one place, sizes that do not add up, or a cutoff that is not positive.

        Example:
            >>> water = Molecules.from_arrays(
            ...     torch.tensor([8, 1, 1]),
            ...     torch.tensor([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]]),
            ...     cutoff=5.0,
            ... )
            >>> water.edge_index.tolist()
            [[1, 2, 0, 2, 0, 1], [0, 0, 1, 1, 2, 2]]
        """
        _check_cutoff(cutoff)
        counts = [len(atomic_numbers)] if sizes is None else list(sizes)
        if sum(counts) != len(atomic_numbers):
            raise ValueError(
                f"sizes: the molecules have {sum(counts)} atoms together, but atomic_numbers has "
                f"{len(atomic_numbers)}; give one size per molecule"
            )
        sizes_tensor = torch.tensor(counts, dtype=torch.long, device=positions.device)
        molecule_index = torch.repeat_interleave(sizes_tensor)
        _check(atomic_numbers, positions, sizes_tensor, molecule_index)
        return cls(
            atomic_numbers=atomic_numbers,
            positions=positions,
            molecule_index=molecule_index,
            edge_index=all_pairs(positions, molecule_index, cutoff),
            num_molecules=len(counts),
            charge=charge,
            external_field=external_field,
        )

    @classmethod
    def from_ase(
        cls,
        structures: ase.Atoms | Sequence[ase.Atoms],
        cutoff: float,
        dtype: torch.dtype | None = None,
    ) -> "Molecules":
        """Molecules, or periodic systems, from ASE.

        Args:
            structures: one or several; `info["charge"]` is taken as the total charge and `info["external_field"]` as
                the field (V/Angstrom) where they stand.
            cutoff: Angstrom.
            dtype: floating-point type; torch's default if left out.

        Raises:
            ValueError: as in `from_arrays`, and for structures that are periodic in some directions only or
                without a cell.
        """
        frames = [structures] if isinstance(structures, ase.Atoms) else list(structures)
        if not frames:
            raise ValueError("structures: the list is empty; give at least one ase.Atoms")
        _check_cutoff(cutoff)
        dtype = dtype or torch.get_default_dtype()
        parts = [_from_frame(frame, cutoff, k) for k, frame in enumerate(frames)]
        offsets = np.cumsum([0] + [len(frame) for frame in frames])
        edge_index = torch.cat([part.edge_index + int(o) for part, o in zip(parts, offsets[:-1], strict=True)], 1)
        shifts = None
        if any(part.shifts is not None for part in parts):
            shifts = torch.cat(
                [
                    part.positions.new_zeros(part.edge_index.shape[1], 3) if part.shifts is None else part.shifts
                    for part in parts
                ]
            ).to(dtype)
        field = None
        if any("external_field" in frame.info for frame in frames):
            fields = [frame_field(frame, f"structure {k}") for k, frame in enumerate(frames)]
            field = torch.tensor(np.stack(fields), dtype=dtype)
        charge = None
        if any("charge" in frame.info for frame in frames):
            charge = torch.tensor([float(frame.info.get("charge", 0.0)) for frame in frames], dtype=dtype)
        return cls(
            atomic_numbers=torch.cat([part.atomic_numbers for part in parts]),
            positions=torch.cat([part.positions for part in parts]).to(dtype),
            molecule_index=torch.repeat_interleave(torch.tensor([len(frame) for frame in frames])),
            edge_index=edge_index,
            num_molecules=len(frames),
            shifts=shifts,
            charge=charge,
            external_field=field,
        )

    def to_ase(self) -> list[ase.Atoms]:
        """One ASE structure per molecule, with `info["charge"]` where charges are known.

        Periodic cells are not kept: a batch knows shifts only.
        """
        numbers = self.atomic_numbers.cpu().numpy()
        positions = self.positions.detach().cpu().double().numpy()
        owner = self.molecule_index.cpu().numpy()
        charges = None if self.charge is None else self.charge.tolist()
        return [
            ase.Atoms(
                numbers[owner == k], positions[owner == k], info={} if charges is None else {"charge": charges[k]}
            )
            for k in range(self.num_molecules)
        ]

    @contextlib.contextmanager
    def differentiable(self) -> Generator["Molecules"]:
        """The same molecules at positions that a gradient can be taken by, whatever mode torch is in."""
        inference = torch.is_inference_mode_enabled()
        with torch.inference_mode(False) if inference else contextlib.nullcontext(), torch.enable_grad():
            # Tensors that were made in inference mode cannot be part of a graph; copies of them can.
            molecules = self._clone() if inference else self
            positions = molecules.positions
            if not positions.requires_grad:
                molecules = molecules.with_positions(positions.detach().requires_grad_())
            yield molecules

    @contextlib.contextmanager
    def in_differentiable_field(self) -> Generator["Molecules"]:
        """The same molecules in a field that a gradient can be taken by: theirs, or zero where they have none."""
        inference = torch.is_inference_mode_enabled()
        with torch.inference_mode(False) if inference else contextlib.nullcontext(), torch.enable_grad():
            molecules = self._clone() if inference else self
            field = molecules.external_field
            if field is None:
                field = molecules.positions.new_zeros(molecules.num_molecules, 3)
            if not field.requires_grad:
                molecules = dataclasses.replace(molecules, external_field=field.detach().requires_grad_())
            yield molecules

    def _clone(self) -> "Molecules":
        def own(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.clone()

        return dataclasses.replace(
            self,
            atomic_numbers=self.atomic_numbers.clone(),
            positions=self.positions.clone(),
            molecule_index=self.molecule_index.clone(),
            edge_index=self.edge_index.clone(),
            shifts=own(self.shifts),
            charge=own(self.charge),
            external_field=own(self.external_field),
        )


def element_table(elements: Sequence[str]) -> Int[Tensor, " numbers"]:
    """Place of each element in a list of them by its atomic number; -1 for elements that are not in the list.

    Raises:
        ValueError: for something that is no element, or one that is listed twice.

    Example:
        >>> element_table(["H", "C", "O"])[[1, 6, 7, 8]].tolist()
        [0, 1, -1, 2]
    """
    table = torch.full((len(chemical_symbols),), -1, dtype=torch.long)
    for place, symbol in enumerate(elements):
        if symbol not in atomic_number_of or symbol == "X":
            raise ValueError(f"elements: {symbol!r} is not a chemical symbol such as 'C' or 'Cl'")
        if table[atomic_number_of[symbol]] >= 0:
            raise ValueError(f"elements: {symbol!r} is listed twice; leave one out")
        table[atomic_number_of[symbol]] = place
    return table


def neighbours(
    positions: Float[Tensor, "atoms 3"], cell: Float[Tensor, "3 3"] | None, cutoff: float
) -> tuple[Int[Tensor, "2 edges"], Float[Tensor, "edges 3"]]:
    """Neighbour list of one structure: all pairs of a small molecule, cell lists of everything else.

    Args:
        positions: Angstrom.
        cell: lattice vectors in rows, Angstrom, of a structure that repeats along all three; None for a molecule.
        cutoff: Angstrom.

    Returns:
        (senders, receivers) ordered by receiver, and the translation (Angstrom) that is added to each sender.
    """
    if cell is not None or len(positions) >= MANY_ATOMS:
        box = torch.eye(3, dtype=positions.dtype, device=positions.device) if cell is None else cell
        return periodic_neighbours(positions, box, cell is not None, cutoff)
    owner = torch.zeros(len(positions), dtype=torch.long, device=positions.device)
    edge_index = all_pairs(positions, owner, cutoff)
    return edge_index, positions.new_zeros(edge_index.shape[1], 3)


def frame_field(frame: ase.Atoms, where: str) -> np.ndarray:
    """Field of a structure, `info["external_field"]`, V/Angstrom; zero where there is none.

    Raises:
        ValueError: for anything but three finite numbers.
    """
    value = frame.info.get("external_field", (0.0, 0.0, 0.0))
    try:
        field = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        field = np.empty(0)
    if field.shape != (3,) or not np.isfinite(field).all():
        raise ValueError(
            f"{where}: external_field is {value!r}; expected three finite numbers, the field along x, y and z in "
            "V/Angstrom"
        )
    return field


def _from_frame(frame: ase.Atoms, cutoff: float, number: int) -> Molecules:
    periodic = bool(frame.pbc.all())
    if frame.pbc.any() and not periodic:
        raise ValueError(
            f"structure {number} is periodic along {int(frame.pbc.sum())} of 3 directions; only none or all are "
            "supported: set `pbc` to all, with a cell that leaves vacuum where the system does not repeat"
        )
    # Neighbours are found in double precision, so that the cutoff falls the same way in every later type.
    numbers = torch.as_tensor(frame.numbers, dtype=torch.long)
    positions = torch.as_tensor(frame.positions, dtype=torch.float64)
    if periodic and not abs(frame.cell.volume) > 0.0:
        raise ValueError(
            f"structure {number} is periodic, but its cell {frame.cell.array.tolist()} has no volume; set the cell, "
            "or `pbc` to none for a molecule"
        )
    cell = torch.as_tensor(frame.cell.array, dtype=torch.float64) if periodic else None
    try:
        return _checked(numbers, positions, cell, cutoff)
    except ValueError as error:
        raise ValueError(f"structure {number}: {error}") from None


def _checked(numbers: Tensor, positions: Tensor, cell: Tensor | None, cutoff: float) -> Molecules:
    _check_sizes(torch.tensor([len(numbers)]))
    _check_values(numbers, positions)
    edge_index, shifts = neighbours(positions, cell, cutoff)
    close = (positions[edge_index[0]] + shifts - positions[edge_index[1]]).norm(dim=-1) < CLASH
    if close.any():
        first = int(close.nonzero()[0, 0])
        raise ValueError(_clash(int(edge_index[1, first]), int(edge_index[0, first])))
    return Molecules(
        atomic_numbers=numbers,
        positions=positions,
        molecule_index=torch.zeros(len(numbers), dtype=torch.long),
        edge_index=edge_index,
        num_molecules=1,
        shifts=None if cell is None else shifts,
    )


def _check(atomic_numbers: Tensor, positions: Tensor, sizes: Tensor, molecule_index: Tensor) -> None:
    _check_sizes(sizes)
    _check_values(atomic_numbers, positions)
    clashing = all_pairs(positions.detach(), molecule_index, CLASH)
    if clashing.numel():
        receiver, sender = int(clashing[1, 0]), int(clashing[0, 0])
        raise ValueError(_clash(receiver, sender))


def _check_sizes(sizes: Tensor) -> None:
    empty = (sizes == 0).nonzero().flatten().tolist()
    if empty or len(sizes) == 0:
        raise ValueError(f"molecule {empty[0] if empty else 0} has no atoms; leave empty molecules out")


def _check_cutoff(cutoff: float) -> None:
    if not cutoff > 0.0:
        raise ValueError(f"cutoff must be a positive length in Angstrom, not {cutoff}")


def _check_values(atomic_numbers: Tensor, positions: Tensor) -> None:
    unreal = ((atomic_numbers < 1) | (atomic_numbers >= len(chemical_symbols))).nonzero().flatten()
    if len(unreal):
        atom = int(unreal[0])
        raise ValueError(
            f"atom {atom} has atomic number {int(atomic_numbers[atom])}; elements are 1 to "
            f"{len(chemical_symbols) - 1}: correct the element"
        )
    broken = (~positions.isfinite().all(-1)).nonzero().flatten()
    if len(broken):
        atom = int(broken[0])
        raise ValueError(
            f"atom {atom} has position {positions[atom].tolist()}; every coordinate must be a finite number of "
            "Angstrom: repair or leave out the structure"
        )


def _clash(one: int, other: int) -> str:
    return (
        f"atoms {min(one, other)} and {max(one, other)} are at one place (closer than {CLASH} Angstrom); "
        "remove one of them"
    )
