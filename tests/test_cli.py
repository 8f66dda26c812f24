"""The command line from outside: exit codes, one-line errors, and what it does not import."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ase.build import bulk, molecule

from neural_polarization.cli import main
from neural_polarization.pretrained import card
from waters import write_experiment


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom neural_polarization.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'lightning', 'ase', 'matplotlib', 'rdkit', 'pyscf', 'scipy', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for command in ("train", "evaluate", "predict", "compare", "info"):
        assert command in done.stdout


def test_from_training_to_prediction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_experiment(tmp_path, epochs=1)
    assert main(["train", str(file), "--training.epochs", "2", "--name=waters"]) == 0
    output = capsys.readouterr()
    assert "validation MAE" in output.out
    assert "epoch 2/2 (100 %)" in output.err
    model = str(tmp_path / "run" / "model.safetensors")

    assert main(["info", model]) == 0
    text = capsys.readouterr().out
    assert "painn, 8 channels, 2 layers" in text
    assert "train 24, validation 8, test 8" in text
    assert main(["info", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["training"]["epochs"] == 2

    assert main(["evaluate", model, "--output", str(tmp_path / "evaluation")]) == 0
    assert "test MAE" in capsys.readouterr().out
    assert (tmp_path / "evaluation" / "parity_forces.png").is_file()

    xyz = tmp_path / "water.xyz"
    xyz.write_text("3\nwater\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n")
    assert main(["predict", model, "-o", str(tmp_path / "out.extxyz"), str(xyz)]) == 0
    assert "displacement:R:3" in (tmp_path / "out.extxyz").read_text()
    assert capsys.readouterr().err == ""
    xyz.write_text(xyz.read_text() + xyz.read_text().replace("water\n", "energy=-99.0 charge=1\n"))
    assert main(["predict", model, str(xyz), "--output", str(tmp_path / "ions.extxyz")]) == 0
    assert "-99" not in (tmp_path / "ions.extxyz").read_text()
    written, warning = capsys.readouterr()
    assert written == f"written: {tmp_path / 'ions.extxyz'} (2 structures)\n"
    assert warning.startswith(
        "npol: warning: outside of what the model was trained on: charge +1 (H2O): the training had 0"
    )
    assert warning.count("\n") == 1
    assert main(["predict", model, str(xyz)]) == 0
    assert "energy [eV]" in capsys.readouterr().out
    monkeypatch.setattr("neural_polarization.interfaces.prediction.from_smiles", lambda _: molecule("H2"))
    both = str(tmp_path / "both.json")
    assert main(["predict", model, str(xyz), "--smiles", "[H][H]", "-o", both]) == 0
    assert capsys.readouterr().out == f"written: {both} (3 structures)\n"

    # In bohr instead of Angstrom all distances are 1.89 times too long.
    xyz.write_text("3\nwater\nO 0 0 0\nH 1.814 0 0\nH -0.454 1.757 0\n")
    assert main(["predict", model, str(xyz)]) == 0
    assert "H-O 1.815 Angstrom (at most " in capsys.readouterr().err
    assert main(["predict", model, str(xyz), "--strict"]) == 2
    assert "are positions in Angstrom (not bohr)?" in capsys.readouterr().err

    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert main(["train", str(file), "--training.epochs", "2", "--name=waters"]) == 2
    assert "a finished run is there" in capsys.readouterr().err
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(("words", "folder"), [([], "run"), (["-o", "elsewhere"], "elsewhere")])
def test_an_evaluation_stands_beside_the_model_unless_told_otherwise(
    words: list[str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    module = "neural_polarization.evaluation"
    monkeypatch.setattr(f"{module}.evaluation.evaluate", lambda *_: SimpleNamespace(plain=dict))
    monkeypatch.setattr(f"{module}.evaluation.write_evaluation", lambda _, to, __: written.append(to) or [])
    monkeypatch.setattr(f"{module}.reports.errors_table", str)
    assert main(["evaluate", "run/model.safetensors", *words]) == 0
    assert written == [Path(folder)]


@pytest.mark.parametrize("failures", [[], ["variant moving, seed 0: FAILED"]])
def test_failures_of_a_comparison_are_told_and_code_1(
    failures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was finished is shown all the same; a picture without ratios is not there, and not spoken of."""
    table = SimpleNamespace(rows=[SimpleNamespace(name="plain", seeds=[0])])
    module = "neural_polarization.evaluation"
    grid = SimpleNamespace(output=tmp_path, config=SimpleNamespace(variants={}))
    monkeypatch.setattr(f"{module}.grid.read_grid", lambda *_: grid)
    monkeypatch.setattr(f"{module}.comparison.compare", lambda *_: (table, failures))
    assert main(["compare", "grid.yaml"]) == len(failures)
    output = capsys.readouterr()
    assert f"npol evaluate {tmp_path}/plain/seed_0/model.safetensors" in output.out
    assert f"written: {tmp_path}/table.md, table.csv, table.json\n" in output.out
    assert output.err == "".join(f"npol: {failure}\n" for failure in failures)
    (tmp_path / "ratios.png").touch()
    assert main(["compare", "grid.yaml"]) == len(failures)
    assert "table.json, ratios.png\n" in capsys.readouterr().out


def test_info_of_a_model_of_the_package_ends_with_its_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--pretrained", "small"]) == 0
    text = capsys.readouterr().out
    assert "elements     H, C, N, O, F, S, Cl" in text
    assert text.endswith(card("small"))
    assert main(["info", "--pretrained", "small", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["backbone"]["name"] == "painn"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "none.yaml"], "none.yaml: there is no such file"),
        (["info", "none.safetensors"], "none.safetensors: there is no such checkpoint"),
        (["predict", "none.safetensors"], "no structure: give a file of structures"),
        (["predict", "none.safetensors", "a.xyz", "--output", "a.pdf"], "unknown kind of output"),
        (["predict", "none.safetensors", "a.xyz", "--colour"], "unknown argument '--colour'"),
        (["label", "a.xyz", "-o", "x.h5", "--levels", "PBE/foo"], "unknown argument '--levels'"),
        (["info", "none.safetensors", "other.safetensors"], "unknown argument 'other.safetensors'"),
        (["info"], "info: give one model"),
        (["info", "none.safetensors", "--pretrained", "small"], "info: give one model"),
        (["info", "--pretrained", "large"], "pretrained model 'large' is not known; there is small, small_bonds"),
        (["predict", "none.safetensors", "a.xyz", "--device", "tpu"], "device 'tpu' is not known"),
        (["evaluate", "none.safetensors", "--device", "tpu"], "device 'tpu' is not known"),
        (["predict", "none.safetensors", "a.xyz", "--batch-size", "-1"], "--batch-size: expected at least 1, got -1"),
        (["evaluate", "none.safetensors", "--batch-size", "0"], "--batch-size: expected at least 1, got 0"),
        (["evaluate", "none.safetensors", "--color", "3"], "--color is not known"),
        (["compare", "none.yaml"], "none.yaml: there is no such file"),
    ],
)
def test_mistakes_are_one_line_and_code_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("npol: error: ")
    assert message in error
    assert error.count("\n") == 1


def test_the_traceback_is_shown_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "none.yaml", "--traceback"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert main(["info", "none.safetensors", "--traceback"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error and "npol: error: none.safetensors: there is no such checkpoint" in error


def test_a_damaged_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 100)
    assert main(["info", str(tmp_path / "model.safetensors")]) == 2
    assert "not a complete safetensors file" in capsys.readouterr().err


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "compare" in capsys.readouterr().out


def test_only_errors_on_purpose_are_the_users(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """FAULTS 2: a shape error of torch read "npol: error: mat1 and mat2 ...", as if the user had made it."""
    import torch

    def multiply(*_: object) -> int:
        torch.ones(2, 3) @ torch.ones(2, 3)
        return 0

    monkeypatch.setattr("neural_polarization.interfaces.commands._info", multiply)
    assert main(["info", "model.safetensors"]) == 70
    error = capsys.readouterr().err
    assert error.startswith("npol: error: RuntimeError: mat1 and mat2 shapes cannot be multiplied")
    assert "This may be a bug of neural-polarization; run the same command with --traceback" in error
    assert error.count("\n") == 1
    assert main(["info", "model.safetensors", "--traceback"]) == 70
    error = capsys.readouterr().err
    assert "Traceback" in error and "in multiply" in error
    monkeypatch.setattr("neural_polarization.interfaces.commands._info", lambda *_: {}["key"])
    assert main(["info", "model.safetensors"]) == 70
    monkeypatch.setattr("neural_polarization.interfaces.commands._info", lambda *_: int("seven"))
    assert main(["info", "model.safetensors"]) == 70
    assert "ValueError: invalid literal" in capsys.readouterr().err
    monkeypatch.setattr("neural_polarization.interfaces.commands._info", lambda *_: open("/none/at/all"))  # noqa: PTH123, SIM115
    assert main(["info", "model.safetensors"]) == 2


def test_an_experiment_is_no_comparison_and_the_other_way_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """FAULTS 5: an experiment given to `npol compare` was told of an unknown key 'data'."""
    file = write_experiment(tmp_path)
    assert main(["compare", str(file)]) == 2
    assert "is one experiment, which `npol train` takes" in capsys.readouterr().err
    (tmp_path / "grid.yaml").write_text("base: experiment.yaml\nvariants: {plain: {}}\n")
    assert main(["train", str(tmp_path / "grid.yaml")]) == 2
    assert "is a comparison of several trainings, which `npol compare` takes" in capsys.readouterr().err


def test_every_module_is_imported_without_fcntl_and_resource() -> None:
    """FAULTS 3: nothing could be imported on Windows."""
    code = (
        "import importlib, pkgutil, sys\n"
        "sys.modules['fcntl'] = sys.modules['resource'] = None\n"
        "import filelock\n"
        "import neural_polarization\n"
        "names = [m.name for m in pkgutil.walk_packages(neural_polarization.__path__, 'neural_polarization.')]\n"
        "for name in names:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ImportError as error:\n"
        "        assert 'fcntl' not in str(error) and 'resource' not in str(error), (name, error)\n"
        "print(len(names))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_predict_runs_without_fcntl_and_resource(tmp_path: Path) -> None:
    """FAULTS 3: the whole command, as on Windows."""
    import torch

    from neural_polarization.checkpoints import save_model
    from neural_polarization.interfaces.prediction import predict
    from neural_polarization.models import HeadConfig, Model, ModelConfig

    torch.manual_seed(0)
    model = Model(ModelConfig(("H", "O"), {"energy": HeadConfig("extensive", forces=True)}))
    save_model(model, tmp_path / "model.safetensors")
    molecule("H2O").write(tmp_path / "water.xyz")
    code = (
        "import sys\n"
        "sys.modules['fcntl'] = sys.modules['resource'] = None\n"
        "from neural_polarization.cli import main\n"
        "code = main(['predict', 'model.safetensors', 'water.xyz', '-o', 'out.json', '--traceback'])\n"
        "assert sys.modules['fcntl'] is None and sys.modules['resource'] is None\n"
        "sys.exit(code)\n"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (written,) = json.loads((tmp_path / "out.json").read_text())["structures"]
    (expected,) = predict(model, [molecule("H2O")])
    assert written["properties"]["energy"]["value"] == pytest.approx(float(expected.properties["energy"]), abs=1e-5)
    assert expected.forces is not None
    assert written["forces"] == pytest.approx(expected.forces, abs=1e-5)


def test_fault_3_no_home_directory_and_a_backend_that_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "foo")
    assert main(["info", "none.safetensors"]) == 2
    assert os.environ["MPLBACKEND"] == "Agg"
    monkeypatch.setattr(Path, "home", unknown_user)
    assert main(["info", "none.safetensors"]) == 2
    assert "no home directory, which ASE needs: set the environment variable HOME" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "words", "message"),
    [
        ("h5py", ["pack", "labels.h5", "-o", "set.npz"], "files of labels need h5py: pip install 'h5py>=3.11'"),
        (
            "pyscf",
            ["label", "water.xyz", "-o", "labels.h5"],
            "labels from density functional theory need pyscf: pip install 'neural-polarization[dft]'",
        ),
        (
            "vesin",
            ["predict", "model.safetensors", "salt.extxyz"],
            "large and periodic systems need vesin: pip install 'vesin>=0.4,<1'",
        ),
        (
            "rdkit",
            ["predict", "model.safetensors", "--smiles", "O"],
            "SMILES and SDF files need RDKit: pip install 'neural-polarization[smiles]'",
        ),
    ],
)
def test_fault_3_packages_that_are_missing_are_named_with_what_brings_them(
    missing: str,
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from neural_polarization.checkpoints import save_model
    from neural_polarization.models import HeadConfig, Model, ModelConfig

    monkeypatch.chdir(tmp_path)
    save_model(Model(ModelConfig(("H", "O", "Na", "Cl"), {"energy": HeadConfig("extensive")})), "model.safetensors")
    molecule("H2O").write("water.xyz")
    bulk("NaCl", "rocksalt", a=5.64).write("salt.extxyz")
    for name in list(sys.modules):
        # Modules that have imported the package already are imported anew.
        if name.partition(".")[0] == missing or name.startswith("neural_polarization.labelling."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(words) == 2
    assert capsys.readouterr().err == f"npol: error: {message}\n"


def unknown_user() -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize(
    ("words", "place", "said"),
    [
        (["predict", "x.safetensors", "x.xyz"], "interfaces.chosen.chosen_model", "stopped\n"),
        (["label", "x.xyz", "-o", "x.h5"], "structures.read_structures", "stopped; what is labelled is stored, and"),
        (["train", "x.yaml"], "settings.read_yaml", "stopped; the same command goes on from the last checkpoint"),
    ],
)
def test_what_is_left_of_a_command_that_is_stopped(
    words: list[str], place: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"neural_polarization.{place}", stop)
    assert main(words) == 130
    assert said in capsys.readouterr().err
