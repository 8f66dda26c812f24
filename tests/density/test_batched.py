"""Values of a batch at once are those of every molecule by itself, with the same gradients."""

import torch

from density_models import density_model, shaken
from neural_polarization.density.batched import values_in_batch
from neural_polarization.molecules import Molecules


def test_values_and_gradients_are_those_of_evaluate() -> None:
    model = density_model().double()
    molecules = Molecules.from_ase([shaken("CH3OH"), shaken("H2O"), shaken("C2H4")], 4.0, torch.float64)
    points = 1.5 * torch.randn(3, 30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    density = model.density(molecules)
    together = values_in_batch(density.parts, points)
    alone = torch.stack([density.evaluate(points[k], k, threshold=0.0) for k in range(3)])
    torch.testing.assert_close(together, alone)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    factors = torch.linspace(-1.0, 1.0, 30, dtype=torch.float64)
    one = torch.autograd.grad((together * factors).sum(), weights, retain_graph=True, allow_unused=True)
    other = torch.autograd.grad((alone * factors).sum(), weights, allow_unused=True)
    for first, second in zip(one, other, strict=True):
        assert (first is None) == (second is None)
        if first is not None and second is not None:
            torch.testing.assert_close(first, second)
