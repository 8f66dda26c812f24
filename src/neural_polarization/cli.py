"""`npol`: the command line. Nothing heavy is imported before a command needs it."""

import argparse
import dis
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import neural_polarization
from neural_polarization.interfaces import commands as interfaces
from neural_polarization.interfaces.spectra import commands as spectra
from neural_polarization.labelling import commands as labelling

if TYPE_CHECKING:
    from neural_polarization.training.config import ExperimentConfig

USER_ERROR = 2
BUG = 70
INTERRUPTED = 130
_FROM_CHECKPOINT = "; the same command goes on from the last checkpoint (training.checkpoint_seconds)"
GOES_ON = {
    "train": _FROM_CHECKPOINT,
    "compare": _FROM_CHECKPOINT,
    "label": "; what is labelled is stored, and the same command goes on from there",
    "expressiveness": "; what is measured is stored, and the same command goes on from there",
}
"""What is said of a command that is stopped; others leave nothing."""

LONGEST = 500
"""Characters of an unforeseen error that are shown."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code.

    Mistakes of the user are one line on standard error and code 2; anything else that goes wrong may be a bug, which
    the line says, and has code 70. `--traceback` shows where an error arose.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    show = "--traceback" in words
    words = [word for word in words if word != "--traceback"]
    known, rest = parser().parse_known_args(words)
    run: Callable[[argparse.Namespace, list[str]], int] | None = getattr(known, "run", None)
    if run is None:
        parser().print_help()
        return USER_ERROR if words else 0
    try:
        _check_surroundings()
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            _check_words(rest, getattr(known, "takes", None))
            return run(known, rest)
    except KeyboardInterrupt:
        sys.stderr.write(f"\nstopped{GOES_ON.get(words[0], '')}\n")
        return INTERRUPTED
    except Exception as error:
        if show:
            traceback.print_exc()
        text = " ".join(str(error).split())
        if on_purpose(error):
            sys.stderr.write(f"npol: error: {text}\n")
            return USER_ERROR
        hint = "" if show else "; run the same command with --traceback to see where, and report it with that"
        place = traceback.extract_tb(error.__traceback__)[-1]
        sys.stderr.write(
            f"npol: error: {type(error).__name__}: {text[:LONGEST]} ({Path(place.filename).name}, line "
            f"{place.lineno}). This may be a bug of neural-polarization{hint}\n"
        )
        return BUG


def on_purpose(error: BaseException) -> bool:
    """Whether an error is a message to the user: raised by a statement of this library, or by the operating system.

    An error that another library raised, or Python itself, and that nobody translated, was not foreseen.

    Example:
        >>> try:
        ...     int("seven")
        ... except ValueError as error:
        ...     on_purpose(error)
        False
    """
    if isinstance(error, OSError) and error.errno is not None:
        return True  # a file that is not there, a disk that is full
    if not isinstance(error, ValueError | OSError | ImportError | ArithmeticError | RuntimeError):
        return False
    place = error.__traceback__
    if place is None:
        return False
    while place.tb_next is not None:
        place = place.tb_next
    code = place.tb_frame.f_code
    ours = str(place.tb_frame.f_globals.get("__name__", "")).partition(".")[0] == "neural_polarization"
    return ours and dis.opname[code.co_code[place.tb_lasti]] == "RAISE_VARARGS"


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    sys.stderr.write(f"npol: warning: {' '.join(str(message).split())}\n")


def _check_surroundings() -> None:
    """What the libraries below need of the system, before their own errors, which say less."""
    # No window is ever shown here; a backend that is not there would stop the import of matplotlib.
    os.environ["MPLBACKEND"] = "Agg"
    try:
        Path.home()
    except RuntimeError:
        raise OSError(
            "this user has no home directory, which ASE needs: set the environment variable HOME to a directory, for "
            "instance HOME=/tmp npol ..."
        ) from None


def parser() -> argparse.ArgumentParser:
    """The parser of all commands.

    Each command sets `run`, a function of the parsed arguments and of the words that the parser did not know, which
    returns the exit code; and `takes`, what such words may be: "files" or "settings" (by default nothing).
    """
    top = argparse.ArgumentParser(
        prog="npol",
        description=(neural_polarization.__doc__ or "").partition("\n")[0],
        allow_abbrev=False,
        epilog="Settings of a YAML file are changed with --dotted.key value; --traceback shows where an error arose.",
    )
    top.add_argument("--version", action="version", version=f"npol {neural_polarization.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND")
    _add_train(commands)
    _add_compare(commands)
    _add_evaluate(commands)
    _add_expressiveness(commands)
    interfaces.add_parsers(commands)
    spectra.add_parser(commands)
    _add_view(commands)
    labelling.add_parsers(commands)
    return top


def _check_words(words: Sequence[str], takes: str | None) -> None:
    """Refuses what a command does not take. Settings are checked by the command, which knows them."""
    unknown = [word for word in words if word.startswith("-")] if takes == "files" else words
    if unknown and takes != "settings":
        raise ValueError(f"unknown argument {unknown[0]!r}; `npol COMMAND --help` lists what there is")


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train", help="train a model, as configured in a YAML file", allow_abbrev=False, add_help=False
    )
    train.add_argument("-h", "--help", action=_TrainHelp, nargs=0, help="show this message and all settings")
    train.add_argument("--defaults", action=_Defaults, nargs=0, help="print a YAML file with all settings, and exit")
    train.add_argument("config", metavar="FILE.yaml", help="the experiment; see configs/ for examples")
    train.add_argument("--overwrite", action="store_true", help="delete a run that is in the same directory")
    train.add_argument("--quiet", action="store_true", help="show no progress")
    train.add_argument("--strict", action="store_true", help="refuse what is warned of before the training")
    train.set_defaults(run=_train, takes="settings")


class _TrainHelp(argparse.Action):
    """Shows the options of a training and every setting; the settings are imported only now."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from neural_polarization.training.documentation import settings_help

        sys.stdout.write(f"{parser.format_help()}\n{settings_help()}")
        parser.exit()


class _Defaults(argparse.Action):
    """Prints a configuration with every default."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from neural_polarization.training.documentation import defaults_yaml

        sys.stdout.write(defaults_yaml())
        parser.exit()


def _train(known: argparse.Namespace, rest: list[str]) -> int:
    from neural_polarization.settings import build, read_overrides, read_yaml, with_overrides
    from neural_polarization.training.config import ExperimentConfig
    from neural_polarization.training.experiment import fit

    tree, source = read_yaml(known.config)
    if "variants" in tree and "model" not in tree:
        raise ValueError(f"{known.config}: is a comparison of several trainings, which `npol compare` takes")
    overrides = read_overrides(rest)
    source = source.replacing(overrides, "command line, --")
    config = build(ExperimentConfig, with_overrides(tree, overrides), source)
    _find_networks(known.config, [config])
    result = fit(config, overwrite=known.overwrite, quiet=known.quiet, strict=known.strict)
    if result:
        from neural_polarization.evaluation.reports import errors_table

        directory = config.output or f"runs/{config.name}"
        sys.stdout.write(errors_table(result) + f"\n{directory}/model.safetensors is the best model.\n")
    return 0


def _find_networks(file: str, configs: "Sequence[ExperimentConfig]") -> None:
    """Networks of the user's own are looked for beside the file that names them, too."""
    from neural_polarization.user_networks import is_users, look_beside

    if any(is_users(config.model.backbone.name) for config in configs):
        look_beside(Path(file).parent)


def _add_compare(commands: Any) -> None:
    compare = commands.add_parser(
        "compare", help="train variants over several seeds and compare their errors and costs", allow_abbrev=False
    )
    compare.add_argument("grid", metavar="GRID.yaml", help="base experiment, variants and seeds")
    compare.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings at a time, one thread each")
    compare.add_argument(
        "--only", nargs="+", action="extend", metavar="VARIANT", help="train these; the table has all that is done"
    )
    compare.add_argument("--overwrite", action="store_true", help="delete trainings of another configuration")
    compare.add_argument("--table", action="store_true", help="only show the table of what is finished")
    compare.set_defaults(run=_compare, takes="settings")


def _compare(known: argparse.Namespace, rest: list[str]) -> int:
    from neural_polarization.evaluation.comparison import compare, measure, tabulate
    from neural_polarization.evaluation.grid import read_grid
    from neural_polarization.settings import read_overrides

    grid = read_grid(known.grid, read_overrides(rest))
    _find_networks(known.grid, [grid.experiment(name) for name in grid.config.variants])
    if known.table:
        sys.stdout.write(f"{tabulate(grid, measure(grid))}\n")
        return 0
    table, failures = compare(grid, known.jobs, known.overwrite, known.only)
    model = f"{grid.output}/{table.rows[-1].name}/seed_{table.rows[-1].seeds[0]}/model.safetensors"
    picture = ", ratios.png" if Path(grid.output, "ratios.png").is_file() else ""  # there may be no ratio yet
    sys.stdout.write(
        f"\n{table}\nwritten: {grid.output}/table.md, table.csv, table.json{picture}\n"
        f"next: npol evaluate {model}\n      npol predict {model} --smiles CCO\n"
    )
    for failure in failures:
        sys.stderr.write(f"npol: {failure}\n")
    return 1 if failures else 0


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        "evaluate", help="errors of a model on its validation and test data", allow_abbrev=False
    )
    evaluate.add_argument("checkpoint", metavar="MODEL.safetensors")
    interfaces.add_trust(evaluate)
    evaluate.add_argument(
        "-o", "--output", metavar="DIR", help="for evaluation.json and plots; default: beside the model"
    )
    evaluate.add_argument("--device", default="cpu", help="cpu or cuda")
    evaluate.add_argument("--batch-size", type=int, default=256, metavar="N")
    evaluate.add_argument("--overwrite", action="store_true", help="replace an evaluation that is there")
    evaluate.add_argument("--strict", action="store_true", help="refuse what lies outside of the model's training")
    evaluate.epilog = "--data.path FILE evaluates on other data; every setting under `data` can be changed like this."
    evaluate.set_defaults(run=_evaluate, takes="settings")


def _evaluate(known: argparse.Namespace, rest: list[str]) -> int:
    from neural_polarization.evaluation.evaluation import REPORT, evaluate, write_evaluation
    from neural_polarization.evaluation.reports import errors_table
    from neural_polarization.files import refuse_existing
    from neural_polarization.interfaces.devices import checked_device
    from neural_polarization.knowledge import OutsideTrainingWarning, Watch
    from neural_polarization.settings import ConfigError, read_overrides

    overrides = read_overrides(rest)
    for key in overrides:
        if not key.startswith("data."):
            raise ConfigError(f"--{key} is not known to `npol evaluate`; settings of the data begin with --data.")
    changed = {key.removeprefix("data."): value for key, value in overrides.items()}
    checkpoint = Path(known.checkpoint)
    directory = Path(known.output) if known.output else checkpoint if checkpoint.is_dir() else checkpoint.parent
    interfaces.check_batch_size(known.batch_size)
    if checkpoint.exists():  # no folder is made for a name that is misspelt
        refuse_existing(directory / REPORT, known.overwrite)
    warnings.simplefilter("always", OutsideTrainingWarning)
    device, trust, watch = checked_device(known.device), interfaces.trusted(known), Watch(known.strict)
    evaluation = evaluate(known.checkpoint, changed, known.batch_size, device, trust, watch)
    files = write_evaluation(evaluation, directory, known.overwrite)
    sys.stdout.write(f"{errors_table(evaluation.plain())}\nwritten: {', '.join(str(file) for file in files)}\n")
    return 0


def _add_view(commands: Any) -> None:
    view = commands.add_parser(
        "view", help="a page for the browser, or a figure: molecules, moving points and electrons", allow_abbrev=False
    )
    interfaces.add_choice(view)
    view.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="PAGE.html",
        help="the page; with the ending .png, .svg or .pdf a figure of one structure",
    )
    view.add_argument("--title", default="", help="of the page; default: the first structure's name, and how many more")
    view.add_argument("--spacing", type=float, default=0.15, metavar="ANGSTROM", help="of the grids; default 0.15")
    view.set_defaults(run=_view, takes="files")


def _view(known: argparse.Namespace, rest: list[str]) -> int:
    from neural_polarization.interfaces.chosen import checkpoint_and_files, chosen_model, chosen_structures
    from neural_polarization.interfaces.prediction import check_elements
    from neural_polarization.text import counted
    from neural_polarization.view.figures import ENDINGS, check_figure, write_figure
    from neural_polarization.view.page import check_page, write_page
    from neural_polarization.view.prediction import scenes_of

    checkpoint, files = checkpoint_and_files(known, rest)
    is_figure = Path(known.output).suffix.lower() in ENDINGS
    (check_figure if is_figure else check_page)(known.output, known.overwrite)
    model, stored = chosen_model(known, checkpoint)
    structures, names = chosen_structures(known, files)
    if is_figure and len(structures) > 1:
        raise ValueError(
            f"{known.output}: a figure shows one structure, and there are {len(structures)}; give one, or the ending "
            ".html for a page of all"
        )
    check_elements(model, structures, names)
    scenes = scenes_of(model, structures, stored.units, known.spacing)
    if is_figure:
        write_figure(scenes[0], known.output, known.overwrite, title=known.title)
    else:
        write_page(scenes, known.output, known.title, known.overwrite)
    sys.stdout.write(f"written: {known.output} ({counted(len(scenes), 'structure')})\n")
    return 0


def _add_expressiveness(commands: Any) -> None:
    expressiveness = commands.add_parser(
        "expressiveness",
        help="which structures networks with random weights can distinguish, polarized and not",
        allow_abbrev=False,
    )
    expressiveness.add_argument("--backbones", nargs="+", action="extend", metavar="NAME", help="default: all")
    expressiveness.add_argument("--seeds", type=int, default=10, metavar="N", help="draws of the weights")
    expressiveness.add_argument("--max-layers", type=int, default=4, metavar="N")
    expressiveness.add_argument("-o", "--output", default="runs/expressiveness", metavar="DIR")
    expressiveness.set_defaults(run=_expressiveness)


def _expressiveness(known: argparse.Namespace, rest: list[str]) -> int:
    from neural_polarization.evaluation.expressiveness.report import table, violations, write_report
    from neural_polarization.evaluation.expressiveness.suite import Settings, measure

    chosen = {"backbones": tuple(known.backbones)} if known.backbones else {}
    settings = Settings(seeds=known.seeds, max_layers=known.max_layers, **chosen)
    directory = Path(known.output)
    results = measure(settings, directory / "results.json", print)
    files = write_report(results, directory)
    sys.stdout.write(f"\n{table(results)}\n\nwritten: {', '.join(str(file) for file in files)}\n")
    broken = violations(results)
    for violation in broken:
        sys.stderr.write(f"npol: against theory: {violation}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
