"""Radial functions that are Gaussians of exp(-r): narrow at bond lengths, wide at large distances."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ExpNormalBasis(nn.Module):
    """Gaussians on a uniform grid of exp(-alpha r), exp(-beta (exp(-alpha r) - mu_k)^2), alpha = 5 / cutoff.

    The centres mu_k go from exp(-cutoff) to 1, and beta = (2 (1 - exp(-cutoff)) / num_basis)^-2. The original
    multiplies by the cosine cutoff of the same distance. Here the layer multiplies by the envelope, because the
    envelope belongs to the distance of the nuclei.

    Args:
        num_basis: Number of functions.
        cutoff: Cutoff distance, Angstrom.

    References:
        O. T. Unke, M. Meuwly, "PhysNet: a neural network for predicting energies, forces, dipole moments, and partial
        charges", J. Chem. Theory Comput. 15, 3678 (2019), arXiv:1902.08408; alpha is from P. Thölke, G. De Fabritiis,
        "TorchMD-NET: equivariant transformers for neural network based molecular potentials", ICLR 2022,
        arXiv:2202.02541.
    """

    centres: Tensor

    def __init__(self, num_basis: int, cutoff: float) -> None:
        super().__init__()
        start = math.exp(-cutoff)
        self.register_buffer("centres", torch.linspace(start, 1.0, num_basis), persistent=False)
        self.alpha = 5.0 / cutoff
        self.beta = (2.0 / num_basis * (1.0 - start)) ** -2

    def forward(self, lengths: Float[Tensor, " edges"]) -> Float[Tensor, "edges basis"]:
        """Values of the functions at each length (Angstrom)."""
        warped = torch.exp(-self.alpha * lengths.unsqueeze(-1))
        return torch.exp(-self.beta * (warped - self.centres).square())
