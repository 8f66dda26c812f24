"""`npol`: the command line. Nothing heavy is imported before a command needs it."""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence

import neural_polarization

USER_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code.

    Mistakes of the user are one line on standard error and code 2; `--traceback` shows where they were found.
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
        return run(known, rest)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command continues from here\n")
        return INTERRUPTED
    except (ValueError, OSError, ImportError, ArithmeticError, RuntimeError) as error:
        if show:
            traceback.print_exc()
        sys.stderr.write(f"npol: error: {' '.join(str(error).split())}\n")
        return USER_ERROR


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(
        prog="npol",
        description=neural_polarization.__doc__,
        allow_abbrev=False,
        epilog="Settings of a YAML file are changed with --dotted.key value; --traceback shows where an error arose.",
    )
    top.add_argument("--version", action="version", version=f"npol {neural_polarization.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND")

    train = commands.add_parser("train", help="train a model as a YAML file says", allow_abbrev=False)
    train.add_argument("config", metavar="FILE.yaml", help="the experiment; see configs/ for examples")
    train.add_argument("--overwrite", action="store_true", help="lose a run that is in the same directory")
    train.add_argument("--quiet", action="store_true", help="show no progress")
    train.set_defaults(run=_train)

    compare = commands.add_parser(
        "compare", help="train variants over several seeds and compare their errors and costs", allow_abbrev=False
    )
    compare.add_argument("grid", metavar="GRID.yaml", help="base experiment, variants and seeds")
    compare.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings at a time, one thread each")
    compare.add_argument("--overwrite", action="store_true", help="lose trainings of another configuration")
    compare.add_argument("--table", action="store_true", help="only show the table of what is finished")
    compare.set_defaults(run=_compare)
    return top


def _train(known: argparse.Namespace, rest: list[str]) -> int:
    from neural_polarization.training.config import ExperimentConfig
    from neural_polarization.training.fit import fit
    from neural_polarization.training.parsing import build, read_overrides, read_yaml, with_overrides

    tree, source = read_yaml(known.config)
    config = build(ExperimentConfig, with_overrides(tree, read_overrides(rest)), source)
    result = fit(config, overwrite=known.overwrite, quiet=known.quiet)
    if result:
        from neural_polarization.evaluation.reports import errors_table

        directory = config.output or f"runs/{config.name}"
        sys.stdout.write(errors_table(result) + f"\n{directory}/model.safetensors is the best model.\n")
    return 0


def _compare(known: argparse.Namespace, rest: list[str]) -> int:
    from neural_polarization.evaluation.compare import compare, measure, tabulate
    from neural_polarization.evaluation.grid import read_grid
    from neural_polarization.training.parsing import read_overrides

    grid = read_grid(known.grid, read_overrides(rest))
    if known.table:
        sys.stdout.write(f"{tabulate(grid, measure(grid))}\n")
        return 0
    table, failures = compare(grid, known.jobs, known.overwrite)
    sys.stdout.write(f"\n{table}\nwritten: {grid.output}/table.md, table.csv, table.json, ratios.png\n")
    for failure in failures:
        sys.stderr.write(f"npol: {failure}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
