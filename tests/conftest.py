"""Set-up of every test: shapes and types are checked at run time, one thread, one seed."""

from jaxtyping import install_import_hook

# Before anything imports the package: annotations such as Float[Tensor, "edges 3"] are then enforced on every
# call, and on the fields of its dataclasses.
install_import_hook("neural_polarization", "beartype.beartype")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)  # more threads than idle cores make small tensors many times slower


@pytest.fixture(autouse=True)
def _one_seed() -> None:  # pyright: ignore[reportUnusedFunction]
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (libraries draw from it)
