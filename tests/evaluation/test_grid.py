"""Grids: which cells they have, what they find, what their tables say, and what they refuse."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from neural_polarization.data.packed import write_packed
from neural_polarization.data.sources import open_dataset
from neural_polarization.data.splits import Split, save_split
from neural_polarization.evaluation import comparison as comparing
from neural_polarization.evaluation import matching
from neural_polarization.evaluation.comparison import compare, measure, tabulate
from neural_polarization.evaluation.grid import Cell, Grid, GridConfig, VariantConfig, read_grid
from neural_polarization.evaluation.matching import deeper, parameters, step_seconds, wider
from neural_polarization.evaluation.tables import make_table, write_table
from neural_polarization.files import write_json, write_text
from neural_polarization.settings import ConfigError, Source, build, plain, with_overrides
from neural_polarization.training.config import ExperimentConfig
from neural_polarization.training.learned import files_beside, fingerprint
from waters import experiment, waters

PLAIN = {"model.polarization.messages": "plain"}
PLAIN_VARIANT = {"set": PLAIN}
CHANNELS = "model.backbone.channels"


def write_grid(folder: Path, **changed: Any) -> Path:
    base = experiment(folder, epochs=2)
    for key in ("name", "output"):
        del base[key]
    grid: dict[str, Any] = {
        "name": "waters",
        "output": str(folder / "grid"),
        "seeds": [0, 1],
        "base": base,
        "variants": {
            "plain": {"set": PLAIN},
            "wider": {"set": PLAIN, "match": {"variant": "polarized", "cost": "parameters"}},
            "polarized": {"set": {"model.polarization.messages": "both_views"}},
        },
        **changed,
    }
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(grid, sort_keys=False))
    return path


def grid_of(folder: Path, overrides: Mapping[str, Any] | None = None, **changed: Any) -> Grid:
    return read_grid(write_grid(folder, **changed), overrides or {})


def result(energy: float, seconds: float = 60.0) -> dict[str, Any]:
    errors = {"energy": {"mae": energy, "rmse": 2 * energy}}
    units = {"energy": "meV"}
    return {"units": units, "validation": errors, "test": errors, "training_seconds": seconds, "peak_memory_MB": 400.0}


def two(*errors: float, dipole: float | None = None) -> dict[int, dict[str, Any]]:
    """Results of seeds 0, 1, ... for two properties: errors of the energy, and of the dipole the same or another."""
    results: dict[int, dict[str, Any]] = {}
    for seed, energy in enumerate(errors):
        values = {"energy": energy, "dipole": energy if dipole is None else dipole}
        test = {name: {"mae": error, "rmse": error} for name, error in values.items()}
        results[seed] = {**result(energy), "test": test, "units": {"energy": "meV", "dipole": "mD"}}
    return results


def test_cells_are_variants_times_seeds_seed_by_seed(tmp_path: Path) -> None:
    cells = grid_of(tmp_path, {"base.training.epochs": 5}).cells({"wider": {"model.backbone.channels": 11}})
    assert [(cell.variant, cell.seed) for cell in cells] == [
        (name, seed) for seed in (0, 1) for name in ("plain", "wider", "polarized")
    ]
    assert {cell.config.training.epochs for cell in cells} == {5}
    assert [cell.config.model.backbone.channels for cell in cells[:3]] == [8, 11, 8]
    assert [cell.config.training.seed for cell in cells[2:4]] == [0, 1]
    assert len({cell.config.output for cell in cells}) == 6


def test_a_grid_is_repeated_with_three_seeds_in_a_directory_of_its_name() -> None:
    config = GridConfig({}, {"plain": VariantConfig()})
    assert (config.seeds, config.reference) == ([0, 1, 2], "plain")
    for named, folder in ((config, "comparison"), (replace(config, name="mine"), "mine")):
        assert Grid(named, {}, Source("grid.yaml"), Source("grid.yaml")).output == Path("runs") / folder


def test_fault_5_mistakes_are_blamed_on_where_they_stand(tmp_path: Path) -> None:
    """In a variant, in the base, or on the command line."""
    lines = write_grid(tmp_path, variants={"plain": {"set": {"training.epochs": 0}}}).read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "training.epochs: 0" in text)
    with pytest.raises(ConfigError, match=rf"grid\.yaml, line {line} \(variant plain\): training\.epochs: 0 is"):
        read_grid(tmp_path / "grid.yaml", {})
    for key in ("base.training.epochs", "variants.plain.set.training.epochs"):
        with pytest.raises(ConfigError, match=rf"^command line, --{key}.*: training\.epochs: 0 is not"):
            grid_of(tmp_path, {key: 0})


def test_what_is_found_for_a_variant_wins_over_its_settings(tmp_path: Path) -> None:
    variants = {"plain": {"set": {"model.backbone.channels": 9, "training.epochs": 3}}}
    (cell,) = grid_of(tmp_path, variants=variants, seeds=[4]).cells({"plain": {"training.epochs": 8}})
    assert (cell.config.model.backbone.channels, cell.config.training.epochs, cell.config.training.seed) == (9, 8, 4)


def test_a_mapping_changes_what_it_names_and_no_more(tmp_path: Path) -> None:
    variants = {"plain": {"set": {"training": {"learning_rate": 0.5}}}}
    grid = grid_of(tmp_path, {"variants.plain.set.training.batch_size": 3}, variants=variants)
    base, found = build(ExperimentConfig, {**grid.base}, Source("base")), grid.experiment("plain")
    assert found.training == replace(base.training, learning_rate=0.5, batch_size=3)


def test_the_base_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(experiment(tmp_path)))
    grid = grid_of(tmp_path, {"base.training.epochs": 7}, base="base.yaml")
    assert grid.experiment("plain").training.epochs == 7


@pytest.mark.parametrize(
    ("changed", "overrides", "message"),
    [
        ({"reference": "nothing"}, {}, "reference: 'nothing' is not a variant"),
        ({"seeds": [1, 1]}, {}, "seeds: .* must be different"),
        ({"sedes": [1]}, {}, "did you mean 'seeds'"),
        ({"seeds": [0, -1]}, {}, r"grid\.yaml, line \d+: seeds: -1 is negative"),
        ({"seeds": "one"}, {}, "seeds must be a list of whole numbers"),
        ({"variants": {"plain": {"set": {"training": {"seed": 1}}}}}, {}, "training.seed is set by the grid"),
        ({"variants": {"plain": {}, "../plain": {}}}, {}, r"variants: '\.\./plain' is to be the name of a directory"),
        ({"variants": {"plain": {}, "Plain": {}}}, {}, "variants: 'plain' and 'Plain' would share a directory"),
        (
            {
                "variants": {
                    "plain": {},
                    "wider": {
                        "set": {"model": {"backbone": {"channels": 9}}},
                        "match": {"variant": "plain", "cost": "parameters"},
                    },
                }
            },
            {},
            "variants.wider.set: model.backbone.channels is what `match` looks for; leave one of the two out",
        ),
        ({}, {"base.training.epoch": 1}, r"command line, --base.training.epoch: .*did you mean 'training.epochs'"),
        ({"variants": {"plain": {"set": {"model.channels": 3}}}}, {}, "variant plain.*did you mean 'model.backbone"),
        ({"variants": {"plain": {"set": {"training.seed": 3}}}}, {}, "training.seed is set by the grid"),
        (
            {"variants": {"plain": {"match": {"variant": "big", "cost": "time"}}}},
            {},
            "'big' is not a variant with a size of its own",
        ),
    ],
)
def test_grids_that_cannot_be(tmp_path: Path, changed: dict[str, Any], overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grid_of(tmp_path, overrides, **changed)


def config(folder: Path, **overrides: Any) -> ExperimentConfig:
    tree = with_overrides(experiment(folder), {key.replace("__", "."): value for key, value in overrides.items()})
    return build(ExperimentConfig, tree, Source("test"))


def test_the_wider_network_is_the_smallest_with_as_many_parameters(tmp_path: Path) -> None:
    elements = ("H", "O")
    plain = config(tmp_path, model__polarization__messages="plain")
    wanted = parameters(config(tmp_path), elements)
    channels = wider(plain, elements, wanted)

    def of(width: int) -> int:
        of_width = config(tmp_path, model__polarization__messages="plain", model__backbone__channels=width)
        return parameters(of_width, elements)

    assert of(channels) >= wanted > of(channels - 1)
    assert wider(plain, elements, 1) == 8


@pytest.mark.parametrize(
    ("name", "channels", "heads"), [("torchmd_et", 16, 8), ("torchmd_et", 12, 4), ("so3krates", 16, 4)]
)
def test_the_wider_network_keeps_its_attention_heads(tmp_path: Path, name: str, channels: int, heads: int) -> None:
    if name == "so3krates":
        pytest.importorskip("e3nn")
    size = {"model__backbone__name": name, "model__backbone__channels": channels}
    plain = config(tmp_path, model__polarization__messages="plain", **size)
    elements = ("H", "O")
    wanted = parameters(config(tmp_path, **size), elements)
    found = wider(plain, elements, wanted)
    resized = [replace(plain.model.backbone, channels=width) for width in (channels, found)]
    assert [backbone.size.num_heads for backbone in resized] == [heads, heads]
    narrower = [
        width for width in range(channels, found) if replace(resized[0], channels=width).size.num_heads == heads
    ]
    counts = [
        parameters(replace(plain, model=replace(plain.model, backbone=replace(resized[0], channels=width))), elements)
        for width in [*narrower, found]
    ]
    assert all(count < wanted for count in counts[:-1])
    assert counts[-1] >= wanted


@pytest.mark.parametrize(("of_reference", "layers"), [(11.0, 5), (10.8, 5), (11.5, 6), (2.0, 1)])
def test_the_deeper_network_takes_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_reference: float, layers: int
) -> None:
    """On a clock that gives one second to a step and two to each of its layers; 3 % less counts as equal."""

    def seconds(configs: Mapping[str, ExperimentConfig], *_: object, **__: object) -> dict[str, float]:
        return {
            name: of_reference if name == "like" else 1.0 + 2.0 * config.model.backbone.size.num_layers
            for name, config in configs.items()
        }

    monkeypatch.setattr(matching, "step_seconds", seconds)
    plain = config(tmp_path, model__polarization__messages="plain", model__backbone__num_layers=1)
    assert deeper(plain, config(tmp_path), waters(), ("H", "O")) == layers


def test_steps_of_every_experiment_are_timed(tmp_path: Path) -> None:
    configs = {"plain": config(tmp_path, model__polarization__messages="plain"), "both": config(tmp_path)}
    times = step_seconds(configs, waters(), ("H", "O"), rounds=2)
    assert list(times) == ["plain", "both"] and all(0.0 < seconds < 60.0 for seconds in times.values())


def test_the_first_step_is_no_part_of_the_median(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "_Step", lambda *_: lambda number: (60.0, 1.0, 9.0, 2.0)[number])
    assert step_seconds({"plain": config(tmp_path)}, waters(), ("H", "O"), rounds=3) == {"plain": 2.0}


def test_load_that_comes_and_goes_does_not_choose() -> None:
    """FAULTS 6: "wider" took 0.85 of plain's time in one run and 1.21 in the next."""
    load = np.array([1.0, 1.0, 3.0, 8.0, 1.5, 1.0, 2.0])
    late = np.array([1.0, 1.0, 3.0, 9.0, 1.5, 1.0, 2.0])
    times = matching.in_turns({"plain": (0.010 * load).tolist(), "wider": (0.012 * late).tolist()})
    assert times["wider"] / times["plain"] == pytest.approx(1.2)
    assert times["plain"] == pytest.approx(0.015)


def test_minutes_become_as_many_steps_as_fit_into_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"plain": 0.25, "polarized": 0.7, "slow": 60.0}
    monkeypatch.setattr(comparing, "step_seconds", lambda *_: times)
    grid = grid_of(tmp_path, minutes=0.1, seeds=[0], variants=dict.fromkeys(times, PLAIN_VARIANT))
    assert [cell.config.training.steps for cell in grid.cells(measure(grid).found)] == [24, 8, 1]


def test_ratios_are_taken_seed_by_seed() -> None:
    results = {
        "plain": {0: result(10.0), 1: result(20.0)},
        "polarized": {0: result(8.0, 120.0), 1: result(12.0, 120.0), 2: result(1.0, 120.0)},
        "unfinished": {},
    }
    names = list(results)
    table = make_table("test", "plain", results, dict.fromkeys(names, 100), {"plain": 1.0, "polarized": 2.0}, {})
    plain, polarized = table.rows
    assert plain.ratios["energy"].mean == 1.0
    assert polarized.ratios["energy"].mean == pytest.approx((0.8 + 0.6) / 2)
    assert polarized.ratios["energy"].deviation == pytest.approx(0.2 / 2**0.5)
    assert polarized.relative_step == 2.0
    assert polarized.minutes == 2.0
    text = table.markdown()
    assert "| polarized | 7 (0.700 ± 0.141) " in text
    assert "unfinished" not in text
    # Without a reference there is no ratio, and none is made up.
    alone = make_table(
        "test", "plain", {"plain": {}, "polarized": two(8.0)}, {"polarized": 7}, dict.fromkeys(names, 1.0), {}
    )
    cells = [cell.strip() for cell in alone.markdown().splitlines()[-1].split("|")]
    assert cells[1:5] == ["polarized", "8", "8", "-"]


def test_the_mean_ratio_is_geometric_over_properties_and_arithmetic_over_seeds() -> None:
    """Half of one error and twice of another is no gain."""
    results = {"plain": two(10.0, 20.0, dipole=4.0), "polarized": two(5.0, 2.5, dipole=8.0)}
    table = make_table("test", "plain", results, dict.fromkeys(results, 7), dict.fromkeys(results, 1.0), {})
    overall = table.rows[1].overall
    assert overall is not None
    assert (overall.mean, overall.deviation) == pytest.approx((0.75, 0.5 / 2**0.5))
    assert "| 0.750 ± 0.354 |" in table.markdown()


def test_errors_of_the_validation_part_are_called_that() -> None:
    """Where a grid has no test part, or one of its results has none."""
    whole, part = result(10.0), {key: value for key, value in result(20.0).items() if key != "test"}
    for results in ({"plain": {0: part}}, {"plain": {0: whole, 1: part}}):
        table = make_table("test", "plain", results, {"plain": 7}, {"plain": 1.0}, {})
        assert "Validation errors (MAE" in table.markdown()
        assert "validation_mae" in table.long()
    assert (
        "Test errors (MAE"
        in make_table("test", "plain", {"plain": {0: whole}}, {"plain": 7}, {"plain": 1.0}, {}).markdown()
    )


def test_tables_are_written_in_every_form(tmp_path: Path) -> None:
    many = {f"p{k}": {"mae": 1.0 + k, "rmse": 2.0} for k in range(6)}
    units = dict(zip(many, ("eV", "meV", "mD", "bohr^3", "cal/mol/K", "1"), strict=True))
    one = {**result(1.0), "test": many, "units": units}
    table = make_table("test", "plain", {"plain": {0: one}}, {"plain": 7}, {"plain": 1.0}, {"plain": "channels 9"})
    write_table(table, tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert all(f"\n| {name} [{unit}]" in text for name, unit in units.items())  # turned: a row per property
    assert "- plain: channels 9" in text
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert {row["property"]: row["unit"] for row in rows} == units
    assert [float(row["test_mae"]) for row in rows] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert json.loads((tmp_path / "table.json").read_text())["plain"]["mae"]["p5"] == [6.0]
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")
    wider = {"plain": {}, "wider": {0: one}}
    write_table(make_table("test", "plain", wider, dict.fromkeys(wider, 7), dict.fromkeys(wider, 1.0), {}), tmp_path)
    assert not (tmp_path / "ratios.png").exists()  # it was of another table, and this one has no ratios


@pytest.mark.slow
def test_a_grid_is_trained_continued_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One that fails does not keep the others from being trained.
    broken = {"set": {**PLAIN, "training.learning_rate": 1e30, "training.gradient_clip": 0.0}}
    polarized = {"set": {"model.polarization.messages": "both_views"}}
    variants = {"plain": {"set": PLAIN}, "broken": broken, "polarized": polarized}
    grid = grid_of(tmp_path, seeds=[0], variants=variants)
    with pytest.raises(ValueError, match="no training of this grid is finished"):
        tabulate(grid, measure(grid))
    table, failures = compare(grid, jobs=2)
    assert len(failures) == 1
    assert "broken, seed 0: FAILED" in failures[0]
    assert "the training diverged" in failures[0]
    assert [row.name for row in table.rows] == ["plain", "polarized"]
    assert all("forces" in row.ratios for row in table.rows)
    assert (tmp_path / "grid" / "table.md").is_file()
    # Finished cells are not trained again; unfinished ones are.
    started: list[str] = []

    def nothing(cell: Cell) -> comparing.Running:
        started.append(cell.variant)
        process = subprocess.Popen([sys.executable, "-c", "pass"], text=True)
        return comparing.Running(cell, process, cell.log.open("a"), 0.0)

    monkeypatch.setattr(comparing, "start", nothing)
    again, _ = compare(grid)
    assert started == ["broken"]
    assert again.rows[0].errors == table.rows[0].errors
    # Of some variants only, and the table has the others that are finished.
    started.clear()
    some, _ = compare(grid, only=["polarized"])
    assert not started
    assert [row.name for row in some.rows] == ["plain", "polarized"]
    with pytest.raises(ValueError, match=r"--only: 'riding' is not a variant \(there are plain, broken, polarized\)"):
        compare(grid, only=["riding"])
    # Results of another configuration are not lost by accident.
    with pytest.raises(FileExistsError, match=r"training.epochs: 2 -> 3.*--overwrite"):
        compare(grid_of(tmp_path, {"base.training.epochs": 3}, seeds=[0], variants=variants))
    with pytest.raises(FileExistsError, match="trainings of another grid are there"):
        compare(grid_of(tmp_path, {"base.model.backbone.channels": 9}, seeds=[0], variants=variants))
    with pytest.raises(FileExistsError, match=r"training.machine.precision: '?32'? -> '?64"):
        compare(grid_of(tmp_path, {"base.training.machine.precision": "64"}, seeds=[0], variants=variants))


def test_if_all_trainings_fail_the_reasons_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(cell: Cell) -> comparing.Running:
        process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"], text=True)
        return comparing.Running(cell, process, cell.log.open("a"), 0.0)

    monkeypatch.setattr(comparing, "start", failing)
    with pytest.raises(RuntimeError, match=r"all trainings failed: plain, seed 0: FAILED .* it ended with code 3"):
        compare(grid_of(tmp_path, seeds=[0], variants={"plain": PLAIN_VARIANT}))


def test_a_cell_that_another_process_took_in_the_same_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Cell] = []

    def overtaken(cell: Cell) -> comparing.Running:
        """Another process begins to train just before ours, which then ends at once; the other's ends later."""
        started.append(cell)
        other = contextlib.ExitStack()
        other.enter_context(cell.directory.locked())

        def finish() -> None:
            cell.directory.result.write_text(json.dumps(result(1.0)))
            other.close()

        threading.Timer(0.5, finish).start()
        process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(2)"], text=True)
        return comparing.Running(cell, process, cell.log.open("a"), 0.0)

    monkeypatch.setattr(comparing, "start", overtaken)
    table, failures = compare(grid_of(tmp_path, seeds=[0], variants={"plain": PLAIN_VARIANT}))
    assert not failures
    assert len(started) == 1
    assert [row.name for row in table.rows] == ["plain"]


def test_sizes_that_are_to_match_are_found_once(tmp_path: Path) -> None:
    grid = grid_of(tmp_path)
    costs = measure(grid)
    assert costs.parameters["wider"] >= costs.parameters["polarized"] > costs.parameters["plain"]
    assert measure(grid_of(tmp_path)) == costs
    # A further variant goes on with the sizes of the others; one that has changed is another grid.
    variants = yaml.safe_load((tmp_path / "grid.yaml").read_text())["variants"]
    further = {**variants, "riding": {"set": {"model.polarization.messages": "riding"}}}
    (grid.output / "plain" / "seed_0").mkdir(parents=True)
    (grid.output / "plain" / "seed_0" / "config.yaml").touch()
    file = grid.output / "costs.json"
    file.write_text(file.read_text().replace(f'channels": {costs.found["wider"][CHANNELS]}', 'channels": 99'))
    more = measure(grid_of(tmp_path, variants=further))
    assert set(more.step_seconds) == set(further)
    assert more.found == {"wider": {CHANNELS: 99}}
    assert measure(grid_of(tmp_path, variants=variants)).found == more.found
    # The costs of a variant that another grid here did not have are measured once more.
    apart = {name: further[name] for name in ("plain", "riding")}
    assert set(measure(grid_of(tmp_path, variants={**apart, "second": PLAIN_VARIANT})).parameters) == {*apart, "second"}
    assert measure(grid_of(tmp_path, variants=variants)).parameters.keys() >= variants.keys()
    changed = {**further, "riding": {"set": {"model.polarization.messages": "moving_view"}}}
    with pytest.raises(FileExistsError, match=r"variants.riding.* riding -> moving_view"):
        measure(grid_of(tmp_path, variants=changed))
    timed = measure(grid_of(tmp_path, minutes=0.1, output=str(tmp_path / "timed")))
    seconds = {name: found["training.steps"] * timed.step_seconds[name] for name, found in timed.found.items()}
    assert seconds == {name: pytest.approx(6.0, rel=0.05) for name in ("plain", "polarized", "wider")}


@pytest.mark.slow
def test_a_terminated_grid_leaves_no_training_behind(tmp_path: Path) -> None:
    variants = {"plain": PLAIN_VARIANT}
    file = write_grid(tmp_path, seeds=[0], variants=variants)
    command = [sys.executable, "-m", "neural_polarization.cli", "compare", str(file)]
    endless = ["--base.training.epochs", "100000", "--base.training.checkpoint_seconds", "0"]
    process = subprocess.Popen([*command, *endless], env={**os.environ, "OMP_NUM_THREADS": "1"})
    (cell,) = grid_of(tmp_path, seeds=[0], variants=variants).cells({})
    deadline = time.monotonic() + 120
    while not cell.directory.resume.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert cell.directory.busy
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert not cell.directory.busy
    assert cell.directory.resume.exists()


def test_overwriting_a_grid_trains_it_anew(tmp_path: Path) -> None:
    variants = {"plain": {"set": PLAIN}}
    compare(grid_of(tmp_path, seeds=[0], variants=variants))
    run = tmp_path / "grid" / "plain" / "seed_0"
    before = (run / "model.safetensors").read_bytes()
    _, failures = compare(grid_of(tmp_path, {"base.training.epochs": 3}, seeds=[0], variants=variants), overwrite=True)
    assert failures == []
    assert json.loads((run / "result.json").read_text())["epochs"] == 3
    assert (run / "model.safetensors").read_bytes() != before


def test_a_grid_is_not_continued_with_other_data(tmp_path: Path) -> None:
    """FAULTS 1.11: ratios between models of different data."""
    grid = grid_of(tmp_path, seeds=[0])
    (cell, *_) = grid.cells({})
    write_text(cell.directory.config, yaml.safe_dump(plain(cell.config)))
    present = fingerprint(open_dataset(cell.config.data))
    write_json(cell.directory.result, {"content_hash": present})
    comparing.check_data([cell], overwrite=False)
    write_packed(waters(seed=7), tmp_path / "waters.npz")
    with pytest.raises(FileExistsError, match=r"learned from other contents of .*waters.npz .*--overwrite"):
        comparing.check_data([cell], overwrite=False)
    comparing.check_data([cell], overwrite=True)
    assert not cell.directory.started
    write_json(cell.directory.result, {})  # release 0.1.0 did not say
    comparing.check_data([cell], overwrite=False)


def test_a_grid_is_not_continued_with_another_split(tmp_path: Path) -> None:
    file, numbers = tmp_path / "split.json", np.arange(40)
    grid = grid_of(tmp_path, {"base.data.split": {"kind": "stored", "path": str(file)}}, seeds=[0])
    (cell, *_) = grid.cells({})
    save_split(Split(numbers[:24], numbers[24:32], numbers[32:]), file)
    present = {"content_hash": fingerprint(open_dataset(cell.config.data)), "files": files_beside(cell.config.data)}
    write_json(cell.directory.result, present)
    comparing.check_data([cell], overwrite=False)
    save_split(Split(numbers[16:], numbers[8:16], numbers[:8]), file)
    with pytest.raises(FileExistsError, match=r"learned from another file of data.split.path; put the former"):
        comparing.check_data([cell], overwrite=False)


def test_no_table_of_different_data(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, seeds=[0, 1])
    costs = comparing.Costs({}, {}, {})
    for k, cell in enumerate(grid.cells({})[:2]):
        write_json(cell.directory.result, {**result(1.0), "content_hash": f"{k}"})
    with pytest.raises(ValueError, match="trainings learned from 2 different contents of one file"):
        tabulate(grid, costs)
