"""EGNN against the paper's equations, atom by atom in plain loops, and with its own coordinate updates."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from neural_polarization.backbones import EGNN
from neural_polarization.backbones.egnn import EGNNLayer
from neural_polarization.molecules import Molecules
from neural_polarization.moves import STEP, VectorMove
from neural_polarization.polarization import NeuralPolarization, Polarized
from neural_polarization.testing import ELEMENTS, distorted

CUTOFF = 4.0


def _messages(layer: EGNNLayer) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """phi_e of eq. 3 as one perceptron of the concatenation (h_i, h_j, |x_ij|^2)."""
    inner = torch.cat([layer.of_receiver.weight, layer.of_sender.weight, layer.of_square.weight], -1)
    first = nn.Linear(inner.shape[1], inner.shape[0])
    first.weight, first.bias = nn.Parameter(inner), layer.of_receiver.bias

    def phi_e(h_i: Tensor, h_j: Tensor, square: Tensor) -> Tensor:
        return layer.message(first(torch.cat([h_i, h_j, square.reshape(1)])))

    return phi_e


def _loop(backbone: EGNN, molecules: Molecules, moves: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Scalars, velocities and positions after all layers (Satorras et al. 2021, eqs. 3 to 8)."""
    x, n = molecules.positions.clone(), molecules.num_atoms
    nuclei = molecules.positions
    species = [ELEMENTS.index({1: "H", 6: "C", 8: "O"}[int(z)]) for z in molecules.atomic_numbers]
    h = [backbone.embedding.weight[s] for s in species]
    v = [torch.zeros(3, dtype=x.dtype) for _ in range(n)]
    for layer in backbone.layers:
        assert isinstance(layer, EGNNLayer)
        phi_e = _messages(layer)
        new_h, new_v = [], []
        for i in range(n):
            m_i = torch.zeros_like(h[i])
            v_i = layer.keep(h[i]) * v[i] if layer.keep is not None else torch.zeros_like(v[i])
            for j in range(n):
                distance = float((nuclei[i] - nuclei[j]).norm())
                if i == j or distance >= CUTOFF:
                    continue
                envelope = 0.5 * (1.0 + math.cos(math.pi * distance / CUTOFF))
                x_ij = x[j] - x[i]
                m_ij = phi_e(h[i], h[j], x_ij.dot(x_ij))
                m_i = m_i + layer.weight(m_ij) * envelope * m_ij
                v_i = v_i + x_ij / (x_ij.norm() + 1.0) * envelope * layer.push(m_ij)
            new_h.append(h[i] + layer.update(torch.cat([h[i], m_i])))
            new_v.append(v_i)
        h, v = new_h, new_v
        if moves:
            x = x + torch.stack(v)
    return torch.stack(h), torch.stack(v), x


def _error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


@torch.no_grad()
def test_backbone_is_the_paper_with_atoms_that_stay() -> None:
    backbone = EGNN(len(ELEMENTS), channels=8, num_layers=3, cutoff=CUTOFF).double()
    molecules = Molecules.from_ase(distorted("CH3CH2OH"), CUTOFF, torch.float64)
    points: Polarized = NeuralPolarization(backbone, ELEMENTS, "plain")(molecules)
    scalars, velocity, _ = _loop(backbone, molecules, moves=False)
    assert points.vectors is not None
    assert _error(points.scalars, scalars) < 1e-9
    assert _error(points.vectors.squeeze(-1), velocity) < 1e-9


def test_functions_are_the_papers_perceptrons() -> None:
    """Appendix C: two linear layers with SiLU between; phi_e ends with a SiLU, the weight is a sigmoid of one layer."""
    first, second = EGNN(len(ELEMENTS), channels=8, num_layers=2).layers
    assert isinstance(first, EGNNLayer) and isinstance(second, EGNNLayer)
    assert first.keep is None and second.keep is not None
    for function in (second.push, second.keep, second.update):
        assert [type(part) for part in function] == [nn.Linear, nn.SiLU, nn.Linear]
    assert [type(part) for part in second.message] == [nn.SiLU, nn.Linear, nn.SiLU]
    assert [type(part) for part in second.weight] == [nn.Linear, nn.Sigmoid]


@torch.no_grad()
def test_riding_contains_the_original_coordinate_update() -> None:
    """Steps of one and a limit far away: the moving points go where EGNN moves its atoms, x <- x + v (eq. 7)."""
    backbone = EGNN(len(ELEMENTS), channels=8, num_layers=3, cutoff=CUTOFF)
    network = NeuralPolarization(backbone, ELEMENTS, "riding", limit=999.0).double()
    for move in network.moves:
        assert isinstance(move, VectorMove)
        move.mix.weight.fill_(1.0 / move.mix.out_features)  # EGNN has one vector channel
        move.gate.weight.zero_()
        move.gate.bias.fill_(1.0 / STEP)
    molecules = Molecules.from_ase(distorted("CH3CH2OH"), CUTOFF, torch.float64)
    points: Polarized = network(molecules)
    scalars, _, positions = _loop(backbone, molecules, moves=True)
    # The limit of 999 Angstrom changes displacements by less than a millionth.
    assert points.displacement.norm(dim=-1).max() > 0.01
    assert _error(points.displacement, positions - molecules.positions) < 1e-6
    assert _error(points.scalars, scalars) < 1e-6
