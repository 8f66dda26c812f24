"""Our PaiNN and SchNet against numbers that SchNetPack computed (see make_references.py)."""

from pathlib import Path

import pytest
import torch
from ours import CUTOFF, MOLECULES, assert_equal, network, scalars_and_forces
from safetensors.torch import load_file

from neural_polarization.molecules import Molecules

REFERENCES = load_file(Path(__file__).with_name("references.safetensors"))


@pytest.mark.parametrize("molecule", range(len(MOLECULES)), ids=MOLECULES)
@pytest.mark.parametrize("name", ["painn", "schnet"])
def test_equal_to_stored_numbers(name: str, molecule: int) -> None:
    prefix = f"{name}.state."
    theirs = {key.removeprefix(prefix): value for key, value in REFERENCES.items() if key.startswith(prefix)}
    mine = network(name, theirs)
    molecules = Molecules.from_arrays(
        REFERENCES[f"molecule{molecule}.atomic_numbers"], REFERENCES[f"molecule{molecule}.positions"], CUTOFF
    )
    scalars, vectors, forces = scalars_and_forces(mine, molecules, REFERENCES["weights"])
    results = {"scalars": scalars, "forces": forces} | ({} if vectors is None else {"vectors": vectors})
    for what, got in results.items():
        assert_equal(got, REFERENCES[f"{name}.molecule{molecule}.{what}"], what)
    assert (vectors is None) == (name == "schnet")


def test_the_check_would_notice() -> None:
    """A weight that is wrong in the sixth digit is found."""
    prefix = "painn.state."
    theirs = {key.removeprefix(prefix): value for key, value in REFERENCES.items() if key.startswith(prefix)}
    theirs["filter_net.weight"] = theirs["filter_net.weight"] * (1.0 + 1e-6)
    molecules = Molecules.from_arrays(REFERENCES["molecule0.atomic_numbers"], REFERENCES["molecule0.positions"], CUTOFF)
    scalars, _, _ = scalars_and_forces(network("painn", theirs), molecules, REFERENCES["weights"])
    with pytest.raises(AssertionError, match="differs from the original"):
        assert_equal(scalars, torch.as_tensor(REFERENCES["painn.molecule0.scalars"]), "scalars")
