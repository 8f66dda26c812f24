"""`Molecules`: a typed batch of molecules, and its conversion from and to ASE."""

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import ase
import numpy as np
import torch
from ase.data import atomic_numbers as atomic_number_of
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from torch import Tensor

from neural_polarization.charges import frame_field, total_charge, unpaired_electrons
from neural_polarization.errors import DataError
from neural_polarization.geometry import MANY_ATOMS, all_pairs, centred, gathered, neighbours
from neural_polarization.plausibility import CLOSEST, check_positions, crowded, periodic_cell, volume_of
from neural_polarization.properties import FIELD
from neural_polarization.tensors import (
    check_atoms,
    check_cutoff,
    check_shapes,
    check_sizes,
    check_states,
    check_values,
)

_COARSE = 1000.0
"""Distance (Angstrom) from the centre of a structure beyond which single precision rounds a coordinate by 6e-5."""


@dataclass(frozen=True)
class Molecules:
    """A batch of molecules. It is input only: no network writes into it.

    Attributes:
        atomic_numbers: nuclear charge of each atom.
        positions: nuclear positions, Angstrom.
        molecule_index: molecule of each atom, ascending from 0.
        edge_index: (senders, receivers), both directions of every pair of nuclei below the cutoff.
        num_molecules: Number of molecules.
        shifts: Translation (Angstrom) added to each sender in periodic systems, else None.
        charge: Total charge of each molecule, e; None if all are neutral.
        spin: Number of unpaired electrons of each molecule; NaN if it is unknown for one, None if it is for all.
        external_field: Uniform electric field at each molecule, V/Angstrom; None without a field.
        volume: Volume of the cell of each periodic system, Angstrom^3, by which its stress is divided; zero for one
            that has no volume, a molecule for instance. None if none has.
        cutoff: Distance below which nuclei are neighbours, Angstrom; None if it is not known. A network with a longer
            cutoff refuses the batch, because it would miss neighbours.
    """

    atomic_numbers: Int[Tensor, " atoms"]
    positions: Float[Tensor, "atoms 3"]
    molecule_index: Int[Tensor, " atoms"]
    edge_index: Int[Tensor, "2 edges"]
    num_molecules: int
    shifts: Float[Tensor, "edges 3"] | None = None
    charge: Float[Tensor, " molecules"] | None = None
    external_field: Float[Tensor, "molecules 3"] | None = None
    spin: Float[Tensor, " molecules"] | None = None
    volume: Float[Tensor, " molecules"] | None = None
    cutoff: float | None = None

    @property
    def num_atoms(self) -> int:
        """Number of atoms in all molecules together."""
        return self.atomic_numbers.shape[0]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Molecules":
        """The same molecules on another device or in another floating-point type.

        In a type of lower precision each molecule is about its own centre, which is taken off before.
        """

        def real(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(device=device, dtype=dtype)

        positions = self.positions
        if dtype is not None and dtype.itemsize < positions.dtype.itemsize:
            positions = _about_centres(positions, self.molecule_index, self.num_molecules)

        return dataclasses.replace(
            self,
            atomic_numbers=self.atomic_numbers.to(device),
            positions=positions.to(device=device, dtype=dtype),
            molecule_index=self.molecule_index.to(device),
            edge_index=self.edge_index.to(device),
            shifts=real(self.shifts),
            charge=real(self.charge),
            external_field=real(self.external_field),
            spin=real(self.spin),
            volume=real(self.volume),
        )

    def with_positions(self, positions: Float[Tensor, "atoms 3"]) -> "Molecules":
        """The same molecules and neighbours at other positions (Angstrom)."""
        return dataclasses.replace(self, positions=positions)

    def strained(self, strain: Float[Tensor, "molecules 3 3"]) -> "Molecules":
        """The same neighbours, positions, cells and volumes deformed: r -> r + r (strain + strain^T) / 2.

        Args:
            strain: one tensor for each molecule, without unit; zero changes no bit.
        """
        symmetric = 0.5 * (strain + strain.mT)

        def deformed(vectors: Tensor, owner: Tensor) -> Tensor:
            return vectors + (vectors.unsqueeze(-1) * symmetric[owner]).sum(1)

        shifts, volume = self.shifts, self.volume
        if shifts is not None:
            shifts = deformed(shifts, self.molecule_index[self.edge_index[1]])
        if volume is not None:
            volume = volume * torch.linalg.det(symmetric + torch.eye(3).to(symmetric))
        return dataclasses.replace(
            self, positions=deformed(self.positions, self.molecule_index), shifts=shifts, volume=volume
        )

    @classmethod
    def from_arrays(
        cls,
        atomic_numbers: Int[Tensor, " atoms"],
        positions: Float[Tensor, "atoms 3"],
        cutoff: float,
        sizes: Sequence[int] | None = None,
        charge: Float[Tensor, " molecules"] | None = None,
        external_field: Float[Tensor, "molecules 3"] | None = None,
        spin: Float[Tensor, " molecules"] | None = None,
    ) -> "Molecules":
        """Molecules without periodicity from tensors.

        Args:
            atomic_numbers: Atomic numbers; the atoms of a molecule follow each other.
            positions: Positions of the nuclei, Angstrom.
            cutoff: Distance (Angstrom) below which nuclei are neighbours.
            sizes: Number of atoms of each molecule, in order. By default all atoms are one molecule.
            charge: Total charge of each molecule, e.
            external_field: Uniform electric field at each molecule, V/Angstrom.
            spin: Number of unpaired electrons of each molecule; NaN where it is not known.

        Raises:
            ValueError: for an empty molecule, a position that is not finite, an atomic number outside 1..118, two atoms
                at one place, sizes that do not add up, another argument whose shape does not fit, unpaired electrons
                that a molecule cannot have, or a cutoff that is not positive.

        Example:
            >>> water = Molecules.from_arrays(
            ...     torch.tensor([8, 1, 1]),
            ...     torch.tensor([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]]),
            ...     cutoff=5.0,
            ... )
            >>> water.edge_index.tolist()
            [[1, 2, 0, 2, 0, 1], [0, 0, 1, 1, 2, 2]]
        """
        check_cutoff(cutoff)
        check_shapes(atomic_numbers, positions, sizes, charge, external_field, spin)
        counts = [len(atomic_numbers)] if sizes is None else list(sizes)
        sizes_tensor = torch.tensor(counts, dtype=torch.long, device=positions.device)
        check_sizes(sizes_tensor)
        molecule_index = torch.repeat_interleave(sizes_tensor)
        check_atoms(atomic_numbers, positions, sizes_tensor, molecule_index)
        if charge is not None or spin is not None:
            check_states(atomic_numbers, counts, charge, spin)
        return cls(
            atomic_numbers=atomic_numbers.long(),
            positions=positions,
            molecule_index=molecule_index,
            edge_index=_edges(positions, molecule_index, counts, cutoff),
            num_molecules=len(counts),
            charge=charge,
            external_field=external_field,
            spin=spin,
            cutoff=float(cutoff),
        )

    @classmethod
    def from_ase(
        cls,
        structures: ase.Atoms | Sequence[ase.Atoms],
        cutoff: float,
        dtype: torch.dtype | None = None,
        names: Sequence[str] | None = None,
    ) -> "Molecules":
        """Molecules, or periodic systems, from ASE.

        Args:
            structures: One or several, with total charge and unpaired electrons as `charges` finds them, and
                `info["external_field"]` as the field (V/Angstrom). A slab or a wire repeats along the lattice vectors
                for which `pbc` is true; atoms far outside of the cell are moved to equal places near it.
            cutoff: Cutoff distance, Angstrom.
            dtype: Floating-point type; torch's default if left out. In single precision each structure is about its
                own centre, so that one far from the origin is as exact as any other.
            names: What errors call each structure; by default its number.

        Raises:
            TypeError: for anything else than ASE's structures.
            ValueError: as in `from_arrays`, and for periodic structures without a cell, or another number of names.
        """
        frames = [structures] if isinstance(structures, ase.Atoms) else list(structures)
        if not frames:
            raise ValueError("structures: the list is empty; give at least one ase.Atoms")
        for number, frame in enumerate(frames):
            if not isinstance(frame, ase.Atoms):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(
                    f"structures: number {number} is a {type(frame).__name__}, not ase.Atoms; ase.io.read reads files"
                )
        check_cutoff(cutoff)
        dtype = dtype or torch.get_default_dtype()
        if not dtype.is_floating_point:
            raise ValueError(f"dtype: {dtype} is no floating-point type; take torch.float32 or torch.float64")
        names = [f"structure {k}" for k in range(len(frames))] if names is None else names
        if len(names) != len(frames):
            raise ValueError(f"names: {len(names)} names are given for {len(frames)} structures; give one for each")
        named = list(zip(frames, names, strict=True))
        parts = [_from_frame(frame, cutoff, name) for frame, name in named]
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
        charges = [total_charge(frame, name) for frame, name in named]
        spins = [unpaired_electrons(frame, name) for frame, name in named]
        known = any(charges) or any("charge" in frame.info for frame in frames)
        positions = torch.cat([part.positions for part in parts])
        index = torch.repeat_interleave(torch.tensor([len(frame) for frame in frames]))
        if dtype != torch.float64:
            positions = _about_centres(positions, index, len(frames))
        field = None
        if any(FIELD in frame.info for frame in frames):
            fields = [frame_field(frame, name) for frame, name in named]
            field = torch.tensor(np.stack(fields), dtype=dtype)
        volumes = [volume_of(frame.cell.array) if frame.pbc.any() else 0.0 for frame in frames]
        return cls(
            atomic_numbers=torch.cat([part.atomic_numbers for part in parts]),
            positions=positions.to(dtype),
            molecule_index=index,
            edge_index=edge_index,
            num_molecules=len(frames),
            shifts=shifts,
            charge=torch.tensor(charges, dtype=dtype) if known else None,
            spin=None
            if set(spins) == {None}
            else torch.tensor([math.nan if s is None else s for s in spins], dtype=dtype),
            external_field=field,
            volume=torch.tensor(volumes, dtype=dtype) if any(volumes) else None,
            cutoff=float(cutoff),
        )

    def to_ase(self) -> list[ase.Atoms]:
        """One ASE structure per molecule, with `info["charge"]` and `info["spin"]` where they are known.

        Periodic cells are lost, because a batch keeps only their shifts.
        """
        numbers = self.atomic_numbers.cpu().numpy()
        positions = self.positions.detach().cpu().double().numpy()
        owner = self.molecule_index.cpu().numpy()
        states = {"charge": self.charge, "spin": self.spin}
        known = {name: value.tolist() for name, value in states.items() if value is not None}
        return [
            ase.Atoms(
                numbers[owner == k],
                positions[owner == k],
                info={name: round(values[k]) for name, values in known.items() if not math.isnan(values[k])},
            )
            for k in range(self.num_molecules)
        ]

    @contextlib.contextmanager
    def differentiable(self) -> Generator["Molecules"]:
        """The same molecules with positions that require a gradient, also in inference mode and without gradients."""
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
            spin=own(self.spin),
            volume=own(self.volume),
        )


def element_table(elements: Sequence[str]) -> Int[Tensor, " numbers"]:
    """Table from atomic numbers to places in a list of elements; -1 for elements that are not in the list.

    Raises:
        ValueError: for a symbol that is no element, or an element that is listed twice.

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


def _about_centres(
    positions: Float[Tensor, "atoms 3"], index: Int[Tensor, " atoms"], count: int
) -> Float[Tensor, "atoms 3"]:
    """Positions about the centre of each structure, as single precision needs them; warns where that is too coarse."""
    found = centred(positions, index, count)
    if len(found) and float(found.abs().max()) > _COARSE:
        warnings.warn(
            f"a structure reaches more than {_COARSE:g} Angstrom from its centre, where single precision rounds "
            "coordinates, so that forces are wrong by 0.001 eV/Angstrom or more; compute in double precision, or give "
            "distant molecules as structures of their own",
            stacklevel=3,
        )
    return found


def _from_frame(frame: ase.Atoms, cutoff: float, where: str) -> Molecules:
    cell = periodic_cell(frame, where)
    # Neighbours are found in double precision, so that the cutoff falls the same way in every later type.
    numbers = torch.as_tensor(frame.numbers, dtype=torch.long)
    positions = torch.as_tensor(frame.positions, dtype=torch.float64)
    try:
        check_sizes(torch.tensor([len(numbers)]))
        check_values(numbers, positions)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    check_positions(positions.numpy(), where, cell)
    if cell is not None:
        positions = gathered(positions, torch.as_tensor(cell))
    edge_index, shifts = neighbours(positions, None if cell is None else torch.as_tensor(cell), cutoff)
    _check_edges(positions, edge_index, shifts, where)
    return Molecules(
        atomic_numbers=numbers,
        positions=positions,
        molecule_index=torch.zeros(len(numbers), dtype=torch.long),
        edge_index=edge_index,
        num_molecules=1,
        shifts=None if cell is None else shifts,
    )


def _check_edges(positions: Tensor, edge_index: Tensor, shifts: Tensor, where: str) -> None:
    """Neighbours across the sides of a periodic cell; those inside were checked before the search."""
    lengths = (positions[edge_index[0]] + shifts - positions[edge_index[1]]).norm(dim=-1)
    if len(lengths) and float(lengths.min()) < CLOSEST:
        first = int(lengths.argmin())
        one, other = sorted((int(edge_index[0, first]), int(edge_index[1, first])))
        raise DataError(f"{where}: {crowded(one, other, float(lengths[first]), periodic=True)}")


def _edges(positions: Tensor, molecule_index: Tensor, counts: Sequence[int], cutoff: float) -> Tensor:
    if max(counts, default=0) < MANY_ATOMS:
        return all_pairs(positions, molecule_index, cutoff)
    starts = np.cumsum([0, *counts[:-1]]).tolist()
    parts = positions.detach().split(list(counts))
    return torch.cat([neighbours(part, None, cutoff)[0] + s for part, s in zip(parts, starts, strict=True)], dim=1)
