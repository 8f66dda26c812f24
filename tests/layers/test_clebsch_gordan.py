"""Products without weights against e3nn's and against products of vectors that everybody knows."""

import math

import torch
from e3nn import o3

from neural_polarization.layers.clebsch_gordan import ClebschGordan, paths_between, paths_of_square
from neural_polarization.layers.irreps import make_irreps


def test_equal_to_e3nn() -> None:
    first, second = make_irreps([(2, "0e"), (3, "1o"), (2, "2e")]), make_irreps([(1, "1o"), (1, "2e"), (1, "3o")])
    wanted = make_irreps([(1, "0e"), (1, "1o"), (1, "2e")])
    product = ClebschGordan(first, second, paths_between(first, second, wanted)).double()
    blocks = [irrep for _, irrep in first]
    others = [irrep for _, irrep in second]
    out = [(first.count(one), made) for one, _, made in product.paths]
    instructions = [
        (blocks.index(one), others.index(two), k, "uvu", False) for k, (one, two, _) in enumerate(product.paths)
    ]
    torch.set_default_dtype(torch.float64)
    theirs = o3.TensorProduct(first, second, out, instructions)
    torch.set_default_dtype(torch.float32)
    x, y = torch.randn(5, first.dim, dtype=torch.float64), torch.randn(5, second.dim, dtype=torch.float64)
    made = theirs(x, y).split([channels * irrep.dim for channels, irrep in out], -1)
    kinds = [irrep for _, irrep in product.irreps_out]
    expected = torch.cat(
        [block for kind in kinds for block, (_, irrep) in zip(made, out, strict=True) if irrep == kind], -1
    )
    assert str(product.irreps_out) == "5x0e+9x1o+10x2e"
    assert (product(x, y) - expected).abs().max() < 1e-14 * expected.abs().max()


def test_dot_and_cross_product() -> None:
    vectors = make_irreps([(2, "1o")])
    paths = paths_between(vectors, vectors, make_irreps([(1, "0e"), (1, "1e")]))
    x, y = torch.randn(4, 2, 3, dtype=torch.float64), torch.randn(4, 2, 3, dtype=torch.float64)
    got = ClebschGordan(vectors, vectors, paths).double()(x.flatten(1), y.flatten(1))
    dots, crosses = got[:, :2], got[:, 2:].unflatten(-1, (2, 3))
    assert torch.allclose(dots, (x * y).sum(-1) / math.sqrt(3.0), rtol=1e-14)
    expected = torch.linalg.cross(x, y) / math.sqrt(2.0)
    assert torch.allclose(crosses, expected, rtol=1e-13) or torch.allclose(crosses, -expected, rtol=1e-13)


def test_products_of_a_square_are_different() -> None:
    """No product of features with themselves is zero or that of another path."""
    irreps = make_irreps([(1, "0e"), (1, "1o"), (1, "2e"), (1, "1e")])
    wanted = make_irreps((1, o3.Irrep(degree, parity)) for degree in range(4) for parity in (1, -1))
    product = ClebschGordan(irreps, irreps, paths_of_square(irreps, wanted)).double()
    everything = ClebschGordan(irreps, irreps, paths_between(irreps, irreps, wanted)).double()
    x = torch.randn(200, irreps.dim, dtype=torch.float64)
    got, more = product(x, x), everything(x, x)
    assert torch.linalg.matrix_rank(got) == got.shape[1]
    assert torch.linalg.matrix_rank(more) == got.shape[1] < more.shape[1]
