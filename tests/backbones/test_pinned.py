"""A checkpoint predicts with tomorrow's code what it predicts today. Whether that is right, other tests say."""

import json

import pytest
import torch
from pinned import CASES, CHOICES, FILE, summary

PINS = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("messages", CHOICES)
@pytest.mark.parametrize("case", CASES)
def test_predictions_stay(case: str, messages: str) -> None:
    found, pinned = summary(case, messages), PINS[case][messages]
    assert found.pop("state") == pinned["state"], "names or shapes of weights have changed"
    assert found.keys() == pinned.keys() - {"state"}
    for key, values in found.items():
        expected = torch.tensor(pinned[key], dtype=torch.float64)
        scale = float(expected.abs().max())
        assert 1e-6 < scale < 1e8, key
        torch.testing.assert_close(
            torch.tensor(values, dtype=torch.float64), expected, rtol=0.0, atol=1e-9 * scale, msg=key
        )
