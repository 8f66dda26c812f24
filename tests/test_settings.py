"""Configurations: what is accepted, and what an error says."""

import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from neural_polarization.settings import (
    ConfigError,
    Source,
    build,
    differences,
    plain,
    read_overrides,
    read_yaml,
    valid_keys,
    with_overrides,
)
from neural_polarization.training.config import ExperimentConfig, MachineConfig
from waters import experiment


def read(folder: Path, *words: str) -> ExperimentConfig:
    tree = with_overrides(experiment(folder), read_overrides(words))
    return build(ExperimentConfig, tree, Source("test.yaml"))


def test_values_arrive_with_their_types(tmp_path: Path) -> None:
    config = read(tmp_path, "--training.learning_rate", "1e-3", "--model.elements=[H, O]", "--training.steps", "null")
    assert config.training.learning_rate == 1e-3
    assert config.model.elements == ("H", "O")
    assert config.training.steps is None
    assert config.model.heads["energy"].forces


def test_numbers_that_stand_for_text_keep_their_form(tmp_path: Path) -> None:
    words = ["--training.machine.precision", "32", "--name", "1.10", "--data.cache_directory", "007", "--output"]
    config = read(tmp_path, *words, "2024-01-01", "--data.properties.energy.unit", "1", "--training.batch_size", "4")
    assert config.training.machine.precision == "32"
    assert (config.name, config.data.cache_directory, config.output) == ("1.10", "007", "2024-01-01")
    assert config.data.properties is not None
    assert config.data.properties["energy"].unit == "1"
    assert type(config.training.batch_size) is int
    assert type(read(tmp_path, "--data.split.train", "0.5").data.split.train) is float
    with pytest.raises(ConfigError, match=r"precision must be one of .*, not 32\.0"):
        read(tmp_path, "--training.machine.precision", "32.0")
    with pytest.raises(ConfigError, match="name must be text, not True"):
        read(tmp_path, "--name", "true")


def test_numbers_in_a_file_that_stand_for_text(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text("precision: 32\naccelerator: cpu\ndevices: 2\n")
    machine = build(MachineConfig, *read_yaml(path))
    assert (machine.precision, machine.devices) == ("32", 2)
    yaml.safe_dump(plain(machine))  # plain values only
    assert build(MachineConfig, {"precision": 64}, Source("from Python")).precision == "64"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    config = read(tmp_path, "--training.losses.forces.weight", "3", "--data.properties.energy.unit", "eV")
    text = yaml.safe_dump(plain(config))
    assert build(ExperimentConfig, yaml.safe_load(text), Source("again")) == config


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--training.epoch", "3"], "unknown key 'training.epoch'; did you mean 'training.epochs'"),
        (["--epochs", "3"], "unknown key 'epochs'; did you mean 'training.epochs'"),
        (["--model.backbone.chanels", "3"], "did you mean 'model.backbone.channels'"),
        (["--model.heads.energy.knid", "x"], "did you mean 'model.heads.energy.kind'"),
        (["--training.epochs", "many"], "training.epochs must be a whole number, not 'many'"),
        (["--training.epochs", "0"], "training.epochs: 0 is not positive"),
        (["--training.losses.energy.kind", "mea"], "training.losses.energy.kind must be one of 'mae', 'mse', 'huber'"),
        (["--model.backbone", "painn"], "model.backbone takes the keys name, channels"),
        (["--model.heads", "energy"], "model.heads takes names, each with its settings"),
        (["--model.heads.mu.forces", "false"], "the key 'model.heads.mu.kind' is missing"),
        (["--training.machine.devices", "0"], "training.machine.devices: expected a finite number of at least 1"),
        (["--training.machine.threads", "0"], "training.machine.threads: expected a finite number of at least 1"),
        (["--training.machine.accelerator", "cpu", "--training.machine.precision", "16"], "'16' needs a GPU"),
        (["--training.schedule.warmup_steps", "-5"], "training.schedule.warmup_steps: expected a finite number of at"),
        (["--training.losses.forces.weight", ".nan"], "training.losses.forces.weight: expected a finite number of at"),
        (["--training.learning_rate", ".inf"], "training.learning_rate: inf is not positive, or not a finite number"),
        (["--training.gradient_clip", "-1"], "training.gradient_clip: expected a finite number of at least 0"),
        (["--training.early_stopping", "-1"], "training.early_stopping: expected a finite number of at least 0"),
        (["--training.seed", "-1"], "training.seed: expected a finite number of at least 0"),
        (["--data.split.seed", "-1"], "data.split.seed: expected zero or more"),
        (["--training.schedule.factor", "2"], "training.schedule.factor: 2.0 must lie between 0 and 1"),
    ],
)
def test_errors_name_key_and_remedy(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        read(tmp_path, *words)


@pytest.mark.parametrize("written", ["010", "+10", "1_0", "0xA", "0b1010"])
def test_whole_numbers(tmp_path: Path, written: str) -> None:
    """A leading zero makes no octal number, as it did in YAML 1.1."""
    assert read(tmp_path, "--training.epochs", written).training.epochs == 10


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("training.epochs", "a whole number"),
        ("training.learning_rate", "a number"),
        ("training.schedule.decay", "one of 'cosine', 'plateau', 'none'"),
        ("model.heads.energy.forces", "true or false"),
        ("name", "text"),
    ],
)
def test_a_key_without_a_value(tmp_path: Path, key: str, kind: str) -> None:
    """As `forces:` and nothing after it: it would have meant no forces."""
    with pytest.raises(ConfigError, match=rf"{key} must be {kind}, but has no value; give one, or leave"):
        read(tmp_path, f"--{key}=")


def test_errors_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text("name: x\ntraining:\n  epochs: 3\n  bach_size: 4\n")
    tree, source = read_yaml(path)
    with pytest.raises(ConfigError, match=r"experiment.yaml, line 4: unknown key 'training.bach_size'"):
        build(ExperimentConfig, tree, source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\ntraining:\n  epochs: 3\ntraining:\n  seed: 4\n", "line 4: the key 'training' .* after line 2"),
        ("training:\n  epochs: 3\n  seed: 1\n  epochs: 4\n", "line 4: the key 'training.epochs' .* after line 2"),
        ("training: {epochs: 3, epochs: 4}\n", "line 1: the key 'training.epochs' .* after line 1"),
        ("a:\n- b: 1\n  b: 2\n", r"line 3: the key 'a.0.b' .* after line 2"),
    ],
)
def test_a_key_that_is_given_twice(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"experiment\.yaml, {message}"):
        read_yaml(path)


def test_a_mapping_that_takes_in_others(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text("a: &a {x: 1}\nb: &b {y: 2}\nc:\n  <<: *a\n  <<: *b\n  x: 3\n")
    assert read_yaml(path)[0]["c"] == {"x": 3, "y": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "expected keys and values"), ("- 1\n", "found list"), ("a: [1\n", "not valid YAML")],
)
def test_files_that_hold_no_mapping(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_yaml(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        read_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize("words", [["epochs"], ["--training.epochs"], ["--training.epochs", "--name"]])
def test_command_lines_that_make_no_sense(words: list[str]) -> None:
    with pytest.raises(ConfigError):
        read_overrides(words)


def test_every_key_can_be_overridden(tmp_path: Path) -> None:
    config = plain(read(tmp_path))
    values: dict[str, object] = {}
    for key in valid_keys(ExperimentConfig):
        if "*" in key:
            continue
        value = config
        for name in key.split("."):
            if value is None:
                break  # a section that is left out
            value = value[name]
        else:
            values[key] = value
    assert "training.schedule.decay" in values
    # The last part of each key first, so that what stands above it does not hide it.
    overrides = dict(sorted(values.items(), key=lambda item: -item[0].count(".")))
    assert plain(build(ExperimentConfig, with_overrides({}, overrides), Source("x"))) == config


def test_differences_are_told_by_key() -> None:
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}) == ["a.c: 2 -> None"]
    assert differences({"a": 1}, {"a": 1, "b": 2}) == ["b: None -> 2"]


def test_a_value_may_hold_an_equals_sign() -> None:
    assert read_overrides(["--name=a=b", "--output", "c=d"]) == {"name": "a=b", "output": "c=d"}


def test_overrides_leave_what_they_override_as_it_was() -> None:
    """Variants of a grid share one tree."""
    tree = {"name": "x", "training": {"epochs": 10, "schedule": {"decay": "none"}}}
    changed = with_overrides(tree, {"name": "y", "training.epochs": 20, "training.schedule.decay": "cosine"})
    assert changed == {"name": "y", "training": {"epochs": 20, "schedule": {"decay": "cosine"}}}
    assert tree == {"name": "x", "training": {"epochs": 10, "schedule": {"decay": "none"}}}


def test_a_mapping_leaves_the_rest_of_its_section() -> None:
    tree = {"training": {"epochs": 10, "schedule": {"decay": "none", "warmup": 5}}}
    changed = with_overrides(tree, {"training": {"schedule": {"decay": "cosine"}}})
    assert changed == {"training": {"epochs": 10, "schedule": {"decay": "cosine", "warmup": 5}}}
    assert with_overrides(tree, {"training": {}}) == {"training": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n" for a, b in pairwise("abcdefghij")
        ), "its aliases .* make more than"),
        ("a: &a [*a]\n", "its aliases"),
        ("a: " + "[" * 20_000, "nested too deeply|not valid YAML"),
        ("a: " + "[" * 300 + "]" * 300, "its aliases .*100 levels"),
        ("quiet: !!bool abc\n", "not valid YAML"),
        ("seed: !!int abc\n", "not valid YAML"),
        ("seed: " + "9" * 5000, "not valid YAML"),
        ("x" * 1_000_001, "has more than 1,000,000 bytes"),
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_fault_2_files_that_are_bounded(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    start = time.process_time()
    with pytest.raises(ConfigError, match=rf"(?s)bad\.yaml: .*({message})"):
        read_yaml(path)
    assert time.process_time() - start < 4.0


def test_fault_2_bytes_and_fault_4_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"some\.yaml: is no text file"):
        read_yaml(path)
    path.write_bytes(b"\xef\xbb\xbfname: run\n")
    assert read_yaml(path)[0] == {"name": "run"}


def test_fault_5_a_value_of_the_command_line_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    file = Source("run.yaml", {"training": 3, "training.epochs": 4})
    source = file.replacing(["training.epochs"], "command line, --")
    tree = with_overrides({"training": {"epochs": 20}, **experiment(tmp_path)}, {"training.epochs": 0})
    with pytest.raises(ConfigError, match=r"^command line, --training\.epochs: training\.epochs"):
        build(ExperimentConfig, tree, source)
    with pytest.raises(ConfigError, match=r"^run\.yaml, line 4: training\.epochs"):
        build(ExperimentConfig, tree, file)


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        # What stands in the file under a key that was replaced has nothing to do with it.
        ("training", {"epochs": 0}, "command line, --training: training.epochs"),
        # What only the command line has made is in no line of the file.
        ("training.losses.energy.wait", 1, "command line, --training.losses.energy.wait: unknown key"),
        ("training.references.energy.unit", "eV", "command line, --training.references.energy.unit: the key"),
        ("training.seed", -1, "command line, --training.seed: training.seed"),
    ],
)
def test_fault_5_the_place_of_a_value_that_was_replaced(tmp_path: Path, key: str, value: object, place: str) -> None:
    source = Source("run.yaml", {"training": 3, "training.epochs": 4}).replacing([key], "command line, --")
    with pytest.raises(ConfigError) as raised:
        build(ExperimentConfig, with_overrides(experiment(tmp_path), {key: value}), source)
    assert str(raised.value).startswith(place)
