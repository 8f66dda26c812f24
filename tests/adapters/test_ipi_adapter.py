"""i-PI's energies and forces of a model are those of the ASE calculator, for every point of a ring polymer."""

import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest

pytest.importorskip("ipi")

from engine_models import calculator, ran


@pytest.mark.skipif(shutil.which("i-pi") is None, reason="i-pi is not on the path: activate its environment")
def test_a_short_path_integral(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, beads = 4, 3
    ran("run_ipi.py", ["--steps", str(steps), "--beads", str(beads)], tmp_path, monkeypatch)
    rows = np.loadtxt(tmp_path / "ipi" / "ethanol.out")
    assert len(rows) == steps + 1
    assert np.ptp(rows[:, 1]) < 0.01  # the conserved energy
    energies, model = [], calculator(tmp_path)
    for bead in range(beads):
        frames = ase.io.read(tmp_path / "ipi" / f"ethanol.pos_{bead}.extxyz", ":")
        forces = ase.io.read(tmp_path / "ipi" / f"ethanol.frc_{bead}.extxyz", ":")
        assert len(frames) == len(forces) == steps + 1
        for frame, force in zip(frames, forces, strict=True):
            frame.calc = model
            np.testing.assert_allclose(force.get_forces(), frame.get_forces(), atol=1e-5)
        energies.append([frame.get_potential_energy() for frame in frames])
    assert np.abs(frames[-1].positions - frames[0].positions).max() > 1e-3
    np.testing.assert_allclose(rows[:, 2], np.mean(energies, 0), atol=2e-5)
