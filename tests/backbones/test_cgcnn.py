"""CGCNN: the contract, and eq. 5 atom by atom in plain loops."""

import math

import torch
import torch.nn.functional as F  # noqa: N812

from neural_polarization.backbones.cgcnn import CGCNN, CGCNNLayer
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import NeuralPolarization, Polarized
from neural_polarization.testing import ELEMENTS, BackboneContract, distorted


class TestCGCNN(BackboneContract):
    def make_backbone(self, num_species: int) -> CGCNN:
        return CGCNN(num_species, channels=8, num_layers=2, cutoff=4.0, num_basis=8)


@torch.no_grad()
def test_is_equation_5() -> None:
    cutoff, channels, num_basis = 4.0, 8, 9
    backbone = CGCNN(len(ELEMENTS), channels, num_layers=2, cutoff=cutoff, num_basis=num_basis).double()
    molecules = Molecules.from_ase(distorted("CH3CH2OH"), cutoff, torch.float64)
    points: Polarized = NeuralPolarization(backbone, ELEMENTS, "plain")(molecules)

    x = molecules.positions
    spacing = cutoff / (num_basis - 1)
    v = [backbone.embedding.weight[{1: 0, 6: 1, 8: 2}[int(z)]] for z in molecules.atomic_numbers]
    for layer in backbone.layers:
        assert isinstance(layer, CGCNNLayer)
        weights = torch.cat([layer.of_receiver.weight, layer.of_sender.weight, layer.of_length.weight], 1)
        new = []
        for i in range(len(x)):
            total = v[i].clone()
            for j in range(len(x)):
                r = float((x[i] - x[j]).norm())
                if i == j or r >= cutoff:
                    continue
                u = [math.exp(-0.5 * ((r - k * spacing) / spacing) ** 2) for k in range(num_basis)]
                z = torch.cat([v[i], v[j], torch.tensor(u, dtype=x.dtype)])
                gate, core = (weights @ z + layer.of_receiver.bias).chunk(2)
                total += 0.5 * (1.0 + math.cos(math.pi * r / cutoff)) * torch.sigmoid(gate) * F.softplus(core)
            new.append(total)
        v = new
    expected = torch.stack(v)
    error = float((points.scalars - expected).abs().max() / expected.abs().max())
    assert error < 1e-9, f"differs from eq. 5 by {error:.1e}"
