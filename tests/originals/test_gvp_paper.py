"""GVP-GNN against the papers' equations, edge by edge and channel by channel in plain loops."""

import math

import torch
from torch import Tensor

from neural_polarization.backbones.gvp import GVP, GeometricVectorPerceptron, GVPLayer
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import NeuralPolarization, Polarized
from neural_polarization.testing import ELEMENTS, distorted

CUTOFF, NUM_BASIS = 4.0, 9

Tuple = tuple[Tensor, list[Tensor]]  # (s, V): scalars, and vectors as a list of channels


def _mix(weights: Tensor, vectors: list[Tensor]) -> list[Tensor]:
    return [sum((w * v for w, v in zip(row, vectors, strict=True)), torch.zeros(3).double()) for row in weights]


def _gvp(layer: GeometricVectorPerceptron, features: Tuple, activate: bool) -> Tuple:
    """Algorithm 1 of 2009.01411 with the vector gate of 2106.03843."""
    s, V = features
    V_h = _mix(layer.hidden.weight, V)
    s_h = torch.stack([(v.dot(v) + 1e-8).sqrt() for v in V_h])  # the original has 1e-8 as the smallest square
    s_m = layer.of_scalars.weight @ torch.cat([s, s_h]) + layer.of_scalars.bias
    gates = torch.sigmoid(layer.gate.weight @ s_m + layer.gate.bias)
    V_mu = _mix(layer.of_vectors.weight, V_h)
    return (s_m * torch.sigmoid(s_m) if activate else s_m), [g * v for g, v in zip(gates, V_mu, strict=True)]


def _row(layers: torch.nn.Module, features: Tuple) -> Tuple:
    """Perceptrons one after another, the last without activation."""
    perceptrons = list(layers.children())
    for number, layer in enumerate(perceptrons):
        assert isinstance(layer, GeometricVectorPerceptron)
        features = _gvp(layer, features, activate=number < len(perceptrons) - 1)
    return features


def _norm(features: Tuple) -> Tuple:
    s, V = features
    centred = s - s.mean()
    square = torch.stack([v.dot(v) for v in V]).mean()
    return centred / (centred.square().mean() + 1e-5).sqrt(), [v / (1.0 + square).sqrt() for v in V]


def _add(first: Tuple, second: Tuple) -> Tuple:
    return first[0] + second[0], [a + b for a, b in zip(first[1], second[1], strict=True)]


def _loop(backbone: GVP, molecules: Molecules) -> list[Tuple]:
    x = molecules.positions
    n, spacing = len(x), CUTOFF / (NUM_BASIS - 1)
    nothing = [torch.zeros(3).double() for _ in range(backbone.vector_channels)]
    h: list[Tuple] = [
        (backbone.embedding.weight[{1: 0, 6: 1, 8: 2}[int(z)]], nothing) for z in molecules.atomic_numbers
    ]
    for number, layer in enumerate(backbone.layers):
        assert isinstance(layer, GVPLayer)
        new = []
        for i in range(n):
            total, count = (torch.zeros_like(h[i][0]), nothing), 1.0
            for j in range(n):
                r = (x[j] - x[i]).norm()
                if i == j or r >= CUTOFF:
                    continue
                basis = torch.stack([torch.exp(-0.5 * ((r - k * spacing) / spacing) ** 2) for k in range(NUM_BASIS)])
                edge = _gvp(layer.edge, (basis, [(x[j] - x[i]) / r]), activate=False)
                known = [] if number == 0 else h[j][1] + h[i][1]
                message = _row(layer.message, (torch.cat([h[j][0], h[i][0], edge[0]]), known + edge[1]))
                envelope = 0.5 * (1.0 + math.cos(math.pi * float(r) / CUTOFF))
                total = _add(total, (envelope * message[0], [envelope * v for v in message[1]]))
                count += envelope
            h_i = _norm(_add(h[i], (total[0] / count, [v / count for v in total[1]])))
            new.append(_norm(_add(h_i, _row(layer.feed_forward, h_i))))
        h = new
    return h


def _error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


@torch.no_grad()
def test_is_the_papers() -> None:
    backbone = GVP(len(ELEMENTS), 8, num_layers=2, cutoff=CUTOFF, num_basis=NUM_BASIS, vector_channels=3).double()
    molecules = Molecules.from_ase(distorted("H2CCO"), CUTOFF, torch.float64)
    points: Polarized = NeuralPolarization(backbone, ELEMENTS, "plain")(molecules)
    expected = _loop(backbone, molecules)
    assert points.vectors is not None
    assert _error(points.scalars, torch.stack([s for s, _ in expected])) < 1e-8
    assert _error(points.vectors, torch.stack([torch.stack(V, -1) for _, V in expected])) < 1e-8
