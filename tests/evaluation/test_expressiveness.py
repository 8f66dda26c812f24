"""The cases are what they claim to be, and networks tell apart what theory says."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from neural_polarization.backbones.protocol import PointFeatures
from neural_polarization.cli import main
from neural_polarization.evaluation.expressiveness.cases import Case, all_cases
from neural_polarization.evaluation.expressiveness.report import IMPOSSIBLE, ROUNDING, violations, write_report
from neural_polarization.evaluation.expressiveness.suite import Cell, Settings, least_layers, make_network, measure
from neural_polarization.evaluation.expressiveness.symmetry import SymmetryErrors, symmetry_errors
from neural_polarization.messages import Messages
from neural_polarization.molecules import Molecules
from neural_polarization.polarization import Polarized

CASES = {case.name: case for case in all_cases()}


def structures(case: Case) -> tuple[Tensor, Tensor]:
    first, second = case.molecules.positions.chunk(2)
    return first, second


def invariants(points: Tensor, order: int) -> np.ndarray:
    """All sets of `order - 1` neighbours of atom 0 by their distances and angles, sorted."""
    arms = (points[1:] - points[0]).numpy()
    rows: list[list[float]] = []
    for chosen in itertools.combinations(arms, order - 1):
        gram = np.array([[float(a @ b) for b in chosen] for a in chosen])
        orders = itertools.permutations(range(order - 1))
        rows.append(min([round(x, 9) + 0.0 for x in gram[np.ix_(p, p)].ravel()] for p in orders))
    return np.array(sorted(rows))


def same(case: Case, order: int) -> bool:
    first, second = structures(case)
    return np.allclose(invariants(first, order), invariants(second, order), atol=1e-8)


@pytest.mark.parametrize(("name", "order"), [("2-body", 2), ("3-body", 3), ("4-body", 4)])
def test_pairs_agree_up_to_their_order_and_differ_beyond(name: str, order: int) -> None:
    case = CASES[name]
    assert all(same(case, lower) for lower in range(2, order + 1))
    assert not same(case, order + 1)


@pytest.mark.parametrize("name", ["4-body-chiral", "enantiomers"])
def test_chiral_pairs_are_mirror_images_and_nothing_else(name: str) -> None:
    first, second = structures(CASES[name])
    # The best rotation (Kabsch) maps the mirror image onto the other, and cannot map the structure itself.
    for points, expected in ((first, False), (first * torch.tensor([-1.0, 1.0, 1.0]), True)):
        u, _, v = torch.linalg.svd(points.T @ second)
        turn = u @ torch.diag(torch.tensor([1.0, 1.0, float(torch.det(u @ v).sign())], dtype=torch.float64)) @ v
        assert torch.allclose(points @ turn, second, atol=1e-8) is expected


def test_chains_differ_at_their_ends_only() -> None:
    for length in (2, 3, 4):
        first, second = structures(CASES[f"{length}-chain"])
        assert torch.equal(first[:-1], second[:-1])
        edges = CASES[f"{length}-chain"].molecules.edge_index
        lengths = [(points[edges[0, :4]] - points[edges[1, :4]]).norm(dim=1) for points in (first, second)]
        assert torch.allclose(*lengths)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, int], Cell]:
    path = tmp_path_factory.mktemp("expressiveness") / "results.json"
    settings = Settings(("schnet", "painn"), seeds=3, max_layers=3)
    return measure(settings, path, report=lambda _: None)


def test_schnet_needs_moving_points(results: dict[tuple[str, str, int], Cell]) -> None:
    for case in CASES:
        assert least_layers(results, "schnet", Messages.PLAIN, case) is None
    for choice in (Messages.RIDING, Messages.BOTH_VIEWS):
        assert least_layers(results, "schnet", choice, "2-body") == 1
        assert least_layers(results, "schnet", choice, "3-body") == 2


def test_vectors_know_angles_and_moving_points_every_degree(results: dict[tuple[str, str, int], Cell]) -> None:
    assert least_layers(results, "painn", Messages.PLAIN, "2-body") == 1
    assert least_layers(results, "painn", Messages.PLAIN, "4-chain") == 3
    assert least_layers(results, "painn", Messages.PLAIN, "3-star-probe") is None
    assert least_layers(results, "painn", Messages.RIDING, "3-star-probe") == 2


def test_symmetry_forbids(results: dict[tuple[str, str, int], Cell]) -> None:
    for name in ("schnet", "painn"):
        for choice in (Messages.PLAIN, Messages.RIDING, Messages.BOTH_VIEWS):
            assert all(least_layers(results, name, choice, case) is None for case in IMPOSSIBLE)
    assert violations(results) == []


def test_violations_are_found(results: dict[tuple[str, str, int], Cell]) -> None:
    broken = dict(results)
    cell = results["painn", "riding", 1]
    apart = {**cell.differences, "enantiomers": (0.1, 0.1, 0.1)}
    broken["painn", "riding", 1] = Cell(apart, SymmetryErrors(1e-3, 0.0, 0.0, 0.0))
    assert violations(broken) == [
        "painn tells enantiomers apart, which symmetry forbids",
        "painn, riding, 1 layers: rotation is kept to 1e-03 only",
    ]
    worse = dict(results)
    for layers in (1, 2, 3):  # told apart with one layer more, with two, and never
        cell = results["painn", "both_views", layers]
        worse["painn", "both_views", layers] = Cell({**cell.differences, "2-body": (0.0,) * 3}, cell.symmetry)
        assert violations(worse) == ["painn needs more layers for 2-body with both_views than plain"]


def _tilted(points: Polarized, molecules: Molecules) -> Polarized:
    return replace(
        points, fixed=PointFeatures(points.fixed.scalars + 1e-3 * molecules.positions[:, :1], points.fixed.vectors)
    )


def _handed(points: Polarized, molecules: Molecules) -> Polarized:
    x = molecules.positions
    volume = torch.linalg.det(x[1:4] - x[0])
    return replace(points, fixed=PointFeatures(points.fixed.scalars + 1e-3 * volume, points.fixed.vectors))


def _fixed_vectors(points: Polarized, _: Molecules) -> Polarized:
    assert points.fixed.vectors is not None
    return replace(points, fixed=PointFeatures(points.fixed.scalars, points.fixed.vectors + 1e-3))


def _out_of_plane(points: Polarized, molecules: Molecules) -> Polarized:
    x = molecules.positions
    return replace(points, trajectory=points.trajectory + 1e-3 * torch.linalg.cross(x[1] - x[0], x[2] - x[0]))


def _along_a_bond_of(atom: int) -> Callable[[Polarized, Molecules], Polarized]:
    """A displacement that turns with the molecule, but knows one of two opposite atoms from the other."""

    def move(points: Polarized, molecules: Molecules) -> Polarized:
        trajectory = points.trajectory.clone()
        trajectory[:, atom] += 1e-3 * (molecules.positions[1] - molecules.positions[0])
        return replace(points, trajectory=trajectory)

    return move


@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        (lambda points, _: points, ()),
        (_tilted, ("rotation", "reflection")),
        (_handed, ("reflection",)),
        (_fixed_vectors, ("rotation", "reflection")),
        (_out_of_plane, ("reflection", "out_of_plane", "at_centre")),
        (_along_a_bond_of(0), ("at_centre",)),
        (_along_a_bond_of(1), ("at_centre",)),
    ],
)
def test_every_broken_symmetry_is_measured(
    fault: Callable[[Polarized, Molecules], Polarized], broken: tuple[str, ...]
) -> None:
    network = make_network("painn", Messages.RIDING, 2, 0)
    network.register_forward_hook(lambda _, given, points: fault(replace(points, moving=points.fixed), *given))
    with torch.no_grad():
        errors = vars(symmetry_errors(network))
    assert {name for name, error in errors.items() if error > 1e-6} == set(broken)
    assert all(error < ROUNDING for name, error in errors.items() if name not in broken)


def test_the_worst_of_several_errors() -> None:
    some = [SymmetryErrors(1.0, 0.0, 3.0, 0.5), SymmetryErrors(0.0, 2.0, 1.0, 1.5)]
    assert SymmetryErrors.worst(some) == SymmetryErrors(1.0, 2.0, 3.0, 1.5)
    assert ROUNDING <= 1e-9


def test_a_case_counts_as_told_apart_where_every_seed_does() -> None:
    exact = SymmetryErrors(0.0, 0.0, 0.0, 0.0)
    found = {("painn", "plain", n): Cell({"2-body": (0.1, size)}, exact) for n, size in ((1, 1e-14), (2, 1e-11))}
    assert found["painn", "plain", 1].told_apart("2-body") == 0.5
    assert least_layers(found, "painn", Messages.PLAIN, "2-body") == 2


def test_results_of_another_number_of_seeds_are_measured_anew(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for seeds in (1, 2):
        found = measure(Settings(("schnet",), seeds, max_layers=1), path, report=lambda _: None)
        assert {len(values) for cell in found.values() for values in cell.differences.values()} == {seeds}


def test_report(results: dict[tuple[str, str, int], Cell], tmp_path: Path) -> None:
    report, figure = write_report(results, tmp_path)
    text = " ".join(report.read_text().split())  # columns are padded
    assert "| schnet | - / 1 / 1 |" in text and "Nothing contradicts theory." in text
    assert figure.read_bytes()[:4] == b"\x89PNG"


def test_command_continues_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["expressiveness", "--backbones", "schnet", "--seeds", "1", "--max-layers", "2", "--output", str(tmp_path)]
    assert main(words) == 0
    stored = json.loads((tmp_path / "results.json").read_text())
    stored["cells"][0]["symmetry"]["rotation"] = 0.5
    (tmp_path / "results.json").write_text(json.dumps(stored))
    assert main(words) == 1, "the stored cell is used, and contradicts theory"
    assert "rotation is kept to 5e-01 only" in capsys.readouterr().err
    assert main([*words[:2], "schnett", *words[3:]]) == 2
    assert "'schnett' is not known; choose one of schnet" in capsys.readouterr().err
    (tmp_path / "results.json").write_text("{}")
    assert main(words) == 2
    assert "delete it to start anew" in capsys.readouterr().err
