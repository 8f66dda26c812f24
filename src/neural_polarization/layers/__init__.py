"""Components that backbones and heads share."""

from neural_polarization.layers.mlp import mlp
from neural_polarization.layers.radial import BesselBasis, GaussianBasis, ShiftedSoftplus
from neural_polarization.layers.scatter import sum_by_index

__all__ = ["BesselBasis", "GaussianBasis", "ShiftedSoftplus", "mlp", "sum_by_index"]
