"""Vectors, safe norm, envelope and neighbour lists: pure functions of tensors.

Only `safe_norm` takes the norm of a vector in this library. A displacement of zero is physical, so first and second
derivatives have to be finite there; a loss on forces differentiates twice.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

NORM_EPSILON = 1e-5
"""Length (Angstrom) below which `safe_norm` turns smooth; at 1 Angstrom it changes the norm by 5e-11."""

FEATURE_EPSILON = 1e-4
"""Norm below which norms of vector features, whose size is about one, turn smooth in networks whose original has such
norms (PaiNN's square root of 1e-8)."""

FIELD_EPSILON = 0.01
"""The same where second derivatives by a field are taken: a kink that is far narrower than what a field changes would
decide them at symmetric geometries."""

MANY_ATOMS = 300
"""Number of atoms from which on neighbours are found by cell lists instead of all pairs."""


@dataclass(frozen=True)
class Edges:
    """Messages of one layer: the senders, the receivers, and the geometry that this layer sees.

    Attributes:
        senders: Index of the sending point.
        receivers: Index of the receiving point.
        vectors: position(sender) - position(receiver), Angstrom. With nuclear lengths, the vector keeps this direction
            and is scaled to the distance of the nuclei.
        lengths: Safe norm of `vectors`, Angstrom.
        nuclear_lengths: Distance of the two NUCLEI, Angstrom; it alone decides whether an edge exists.
        envelope: Smooth cutoff of `nuclear_lengths`, from 1 at zero to 0 at the cutoff.
    """

    senders: Int[Tensor, " edges"]
    receivers: Int[Tensor, " edges"]
    vectors: Float[Tensor, "edges 3"]
    lengths: Float[Tensor, " edges"]
    nuclear_lengths: Float[Tensor, " edges"]
    envelope: Float[Tensor, " edges"]


def safe_norm(vectors: Float[Tensor, "..."], epsilon: float = NORM_EPSILON, dim: int = -1) -> Float[Tensor, "..."]:
    """Norm with finite derivatives of every order, sqrt(|v|^2 + epsilon^2).

    Values in half precision are converted to single precision first. In half precision the square of `epsilon` would
    be zero, and the derivative infinite.

    Args:
        vectors: Vectors of any unit; `dim` is their Cartesian axis.
        epsilon: Value at the zero vector, in the unit of the vectors.
        dim: Axis of the components.

    Example:
        >>> safe_norm(torch.tensor([3.0, 4.0, 0.0])).item()
        5.0
    """
    if vectors.dtype in (torch.float16, torch.bfloat16):
        vectors = vectors.float()
    return (vectors.square().sum(dim) + epsilon**2).sqrt()


def bound(vectors: Float[Tensor, "... 3"], limit: float) -> Float[Tensor, "... 3"]:
    """Bounds lengths smoothly, v / sqrt(1 + |v|^2 / limit^2): the identity near zero, always shorter than `limit`."""
    return vectors * torch.rsqrt(1.0 + vectors.square().sum(-1, keepdim=True) / limit**2)


def cosine_envelope(lengths: Float[Tensor, " edges"], cutoff: float) -> Float[Tensor, " edges"]:
    """Cosine cutoff, (cos(pi r / cutoff) + 1) / 2 for r < cutoff, else 0.

    References:
        J. Behler, M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007), eq. 4.
    """
    inside = 0.5 * (torch.cos(lengths * (math.pi / cutoff)) + 1.0)
    return torch.where(lengths < cutoff, inside, torch.zeros_like(inside))


def polynomial_envelope(lengths: Float[Tensor, " edges"], cutoff: float, power: int = 6) -> Float[Tensor, " edges"]:
    """Polynomial cutoff with two continuous derivatives at the cutoff.

    References:
        J. Gasteiger, J. Gross, S. Günnemann, "Directional message passing for molecular graphs", ICLR 2020,
        eq. 8.
    """
    p = power
    x = lengths / cutoff
    inside = 1.0 - 0.5 * (p + 1) * (p + 2) * x**p + p * (p + 2) * x ** (p + 1) - 0.5 * p * (p + 1) * x ** (p + 2)
    return torch.where(x < 1.0, inside, torch.zeros_like(inside))


def all_pairs(
    positions: Float[Tensor, "atoms 3"], molecule_index: Int[Tensor, " atoms"], cutoff: float
) -> Int[Tensor, "2 edges"]:
    """Neighbour list of many small molecules: every ordered pair of atoms of one molecule below the cutoff.

    For molecules of tens of atoms this is faster than cell lists. `periodic_neighbours` is for large and periodic
    systems.

    Args:
        positions: Positions of the nuclei, Angstrom.
        molecule_index: Index of the molecule that each atom belongs to, ascending.
        cutoff: Cutoff distance, Angstrom.

    Returns:
        The senders and the receivers, ordered by receiver.
    """
    sizes = torch.bincount(molecule_index) if len(molecule_index) else molecule_index.new_zeros(0)
    starts = torch.cumsum(sizes, 0) - sizes
    partners = sizes[molecule_index]  # each atom is paired with all of its molecule
    receivers = torch.repeat_interleave(partners)
    first_pair = torch.cumsum(partners, 0) - partners
    rank = torch.arange(receivers.shape[0], device=positions.device) - first_pair[receivers]
    senders = starts[molecule_index[receivers]] + rank
    distance2 = (positions[senders] - positions[receivers]).square().sum(-1)
    keep = (distance2 < cutoff**2) & (senders != receivers)
    return torch.stack([senders[keep], receivers[keep]])


def periodic_neighbours(
    positions: Float[Tensor, "atoms 3"], cell: Float[Tensor, "3 3"], cutoff: float
) -> tuple[Int[Tensor, "2 edges"], Float[Tensor, "edges 3"]]:
    """Neighbour list of one large or periodic system by cell lists (the library vesin).

    Args:
        positions: Positions of the nuclei, Angstrom.
        cell: Lattice vectors in rows, Angstrom; zero for a direction in which the system does not repeat, as one of a
            slab, two of a wire and all three of a molecule.
        cutoff: Cutoff distance, Angstrom.

    Returns:
        The senders and the receivers, ordered by receiver, and the translation (Angstrom) that is added to each sender.

    Raises:
        ImportError: where vesin is not installed.
    """
    try:
        import vesin  # a compiled library that only large systems need
    except ImportError:
        raise ImportError("large and periodic systems need vesin: pip install 'vesin>=0.4,<1'") from None

    # vesin's compiled core takes float64 arrays in host memory.
    points = positions.detach().cpu().double().numpy()
    box = cell.detach().cpu().double().numpy()
    calculator = vesin.NeighborList(cutoff=cutoff, full_list=True)
    receivers, senders, images = calculator.compute(points=points, box=box, periodic=box.any(1), quantities="ijS")
    order = torch.as_tensor(receivers.argsort(kind="stable"))  # numpy sorts whole numbers in half of torch's time
    edge_index = torch.stack([torch.as_tensor(x.astype("int64"))[order] for x in (senders, receivers)])
    shifts = torch.as_tensor(images.astype("float64"))[order] @ torch.as_tensor(box)
    return edge_index.to(positions.device), shifts.to(positions)


def neighbours(
    positions: Float[Tensor, "atoms 3"], cell: Float[Tensor, "3 3"] | None, cutoff: float
) -> tuple[Int[Tensor, "2 edges"], Float[Tensor, "edges 3"]]:
    """Neighbour list of one structure: from all pairs for a small molecule, from cell lists otherwise.

    Args:
        positions: Positions of the nuclei, Angstrom.
        cell: Lattice vectors in rows, Angstrom, of a periodic structure; zero for a direction in which it does not
            repeat. None for a molecule.
        cutoff: Cutoff distance, Angstrom.

    Returns:
        The senders and the receivers, ordered by receiver, and the translation (Angstrom) that is added to each sender.
    """
    if cell is not None or len(positions) >= MANY_ATOMS:
        return periodic_neighbours(positions, positions.new_zeros(3, 3) if cell is None else cell, cutoff)
    owner = torch.zeros(len(positions), dtype=torch.long, device=positions.device)
    edge_index = all_pairs(positions, owner, cutoff)
    return edge_index, positions.new_zeros(edge_index.shape[1], 3)


def gathered(positions: Float[Tensor, "atoms 3"], cell: Float[Tensor, "3 3"]) -> Float[Tensor, "atoms 3"]:
    """Positions within a cell's length of their median: atoms that have moved far through a periodic system come back.

    Nearer ones stay where they are, so that a molecule in a box is not cut at a side of it.

    Args:
        positions: Angstrom, in double precision.
        cell: lattice vectors in rows, Angstrom; zero for a direction in which the system does not repeat.
    """
    fractions = positions @ torch.linalg.pinv(cell)
    return positions - 2.0 * torch.round(0.5 * (fractions - fractions.median(0).values)) @ cell


def centred(
    positions: Float[Tensor, "atoms 3"], molecule_index: Int[Tensor, " atoms"], num_molecules: int
) -> Float[Tensor, "atoms 3"]:
    """Positions about the mean position of each molecule: small numbers, which single precision holds well.

    Args:
        positions: Angstrom, in double precision.
        molecule_index: Molecule of each atom.
        num_molecules: Number of molecules.
    """
    totals = positions.new_zeros(num_molecules, 3).index_add(0, molecule_index, positions.detach())
    counts = torch.bincount(molecule_index, minlength=num_molecules).clamp(min=1)
    return positions - (totals / counts.unsqueeze(-1))[molecule_index]


def centre_of_charge(
    numbers: Int[Tensor, " atoms"], positions: Float[Tensor, "atoms 3"], index: Int[Tensor, " atoms"], count: int
) -> Float[Tensor, "molecules 3"]:
    """Mean nuclear position of each molecule weighted by nuclear charge, in the precision of the positions, Angstrom.

    Args:
        numbers: atomic number of each atom.
        positions: Angstrom.
        index: molecule of each atom.
        count: number of molecules.
    """
    weights = numbers.to(positions).unsqueeze(-1)
    moments = positions.new_zeros(count, 3).index_add(0, index, weights * positions)
    return moments / positions.new_zeros(count, 1).index_add(0, index, weights)
