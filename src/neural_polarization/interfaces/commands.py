"""What `npol` does with a trained model, and options that commands share. Nothing heavy is imported before one runs."""

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any


def add_parsers(subparsers: Any) -> None:
    """Registers the commands, as `cli.parser` describes them."""
    _add_predict(subparsers)
    _add_info(subparsers)
    _add_density(subparsers)
    _add_export(subparsers)


def add_choice(command: argparse.ArgumentParser) -> None:
    """Adds the model and the structures that a command is about, as `chosen` understands them."""
    command.add_argument("checkpoint", metavar="MODEL.safetensors", nargs="?")
    command.add_argument("structures", metavar="FILE", nargs="*", help=".xyz, .sdf, .smi, or what ASE reads")
    command.add_argument(
        "--pretrained", metavar="NAME", help="a model of the package instead of a file: small, small_bonds"
    )
    command.add_argument("--smiles", action="append", default=[], metavar="SMILES", help="a molecule; may be repeated")
    command.add_argument("--device", default="cpu", help="cpu or cuda (gpu)")
    command.add_argument("--overwrite", action="store_true", help="replace files that are there")
    add_trust(command)


def add_trust(command: argparse.ArgumentParser) -> None:
    """Adds the option by which a checkpoint may import networks of one's own."""
    command.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="MODULE",
        help="import this module for a network of your own; the current directory is searched too. May be repeated",
    )


def check_batch_size(size: int) -> None:
    """Refuses batches of nothing.

    Raises:
        ValueError: for a size below one.
    """
    if size < 1:
        raise ValueError(f"--batch-size: expected at least 1, got {size}")


def trusted(known: argparse.Namespace) -> list[str]:
    """Modules that a checkpoint may import; where there are any, the current directory is searched for them."""
    from neural_polarization.user_networks import look_beside

    if known.trust:
        look_beside(Path())
    return known.trust


def _add_predict(subparsers: Any) -> None:
    predict = subparsers.add_parser(
        "predict", help="properties of molecules, and where their electrons are", allow_abbrev=False
    )
    add_choice(predict)
    predict.add_argument(
        "-o", "--output", metavar="FILE", help=".extxyz, .csv or .json; default: a table on the screen"
    )
    predict.add_argument("--batch-size", type=int, default=64, metavar="N")
    predict.add_argument("--born-charges", action="store_true", help="also those, of a model with a response to fields")
    predict.add_argument("--strict", action="store_true", help="refuse what lies outside of the model's training")
    predict.set_defaults(run=_predict, takes="files")


def _predict(known: argparse.Namespace, rest: list[str]) -> int:
    from neural_polarization.interfaces.chosen import checkpoint_and_files, chosen_model, chosen_structures
    from neural_polarization.interfaces.outputs import check_output, table, write_predictions
    from neural_polarization.interfaces.prediction import check_elements, predict, undefined_moments
    from neural_polarization.knowledge import OutsideTrainingWarning, Watch
    from neural_polarization.text import counted

    # Files after an option are not recognized as such by argparse; they are in `rest`.
    checkpoint, files = checkpoint_and_files(known, rest)
    check_batch_size(known.batch_size)
    if known.output:
        check_output(known.output, known.overwrite)
    model, stored = chosen_model(known, checkpoint)
    structures, names = chosen_structures(known, files)
    check_elements(model, structures, names)
    undefined = undefined_moments(model, structures)
    if undefined:
        sys.stderr.write(f"npol: warning: {undefined}\n")
    warnings.simplefilter("always", OutsideTrainingWarning)
    predictions = predict(
        model, structures, known.batch_size, watch=Watch(known.strict), with_born_charges=known.born_charges
    )
    units = stored.units
    if known.output:
        write_predictions(predictions, units, known.output, known.overwrite)
        sys.stdout.write(f"written: {known.output} ({counted(len(predictions), 'structure')})\n")
    else:
        sys.stdout.write(table(predictions, units) + "\n")
    return 0


def _add_info(subparsers: Any) -> None:
    info = subparsers.add_parser(
        "info", help="describe a checkpoint: network, training data, units", allow_abbrev=False
    )
    info.add_argument("checkpoint", metavar="MODEL.safetensors", nargs="?")
    info.add_argument("--pretrained", metavar="NAME", help="a model of the package, with its card: small, small_bonds")
    add_trust(info)
    info.add_argument("--json", action="store_true", help="everything, for programs")
    info.set_defaults(run=_info)


def _info(known: argparse.Namespace, rest: list[str]) -> int:
    from neural_polarization.interfaces.description import describe, info
    from neural_polarization.pretrained import card, pretrained_path

    if (known.checkpoint is None) == (known.pretrained is None):
        raise ValueError("info: give one model, its .safetensors file or --pretrained small (or small_bonds)")
    name = known.pretrained
    values = info(known.checkpoint if name is None else pretrained_path(name), trusted(known))
    text = json.dumps(values, indent=2) if known.json else describe(values)
    sys.stdout.write(text + "\n" if name is None or known.json else f"{text}\n\n{card(name)}")
    return 0


def _add_density(subparsers: Any) -> None:
    density = subparsers.add_parser(
        "density", help="electron density, potential or atomic charges of molecules, as files", allow_abbrev=False
    )
    add_choice(density)
    density.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help=".cube or .npz, of tables .csv or .npz; numbered for several",
    )
    density.add_argument(
        "--kind",
        choices=("total", "deformation", "valence", "potential", "charges", "surface"),
        default="total",
        help="on a grid: all electrons, less those of free atoms, less the cores, or the electrostatic potential; as a "
        "table: Hirshfeld and MBIS charges and dipoles of atoms, or the potential on surfaces around the molecule",
    )
    density.add_argument("--spacing", type=float, metavar="ANGSTROM", help="of the grid; default 0.1")
    density.add_argument(
        "--margin", type=float, metavar="ANGSTROM", help="around the nuclei; default: 0.002 e/bohr^3 is inside"
    )
    density.set_defaults(run=_density, takes="files")


def _density(known: argparse.Namespace, rest: list[str]) -> int:
    from neural_polarization.interfaces.chosen import checkpoint_and_files, chosen_model, chosen_structures
    from neural_polarization.interfaces.electron_tables import TABLES, write_tables
    from neural_polarization.interfaces.electrons import check_molecules, write_density
    from neural_polarization.interfaces.prediction import check_elements

    checkpoint, files = checkpoint_and_files(known, rest)
    model, _ = chosen_model(known, checkpoint)
    structures, names = chosen_structures(known, files)
    check_elements(model, structures, names)
    check_molecules(structures, names)
    if known.kind in TABLES:
        if known.spacing is not None or known.margin is not None:
            raise ValueError(f"--kind {known.kind} has no grid; leave out --spacing and --margin")
        written = write_tables(model, structures, known.output, known.kind, known.overwrite)
    else:
        written = write_density(
            model,
            structures,
            known.output,
            known.kind,
            0.1 if known.spacing is None else known.spacing,
            known.margin,
            known.overwrite,
            _progress if sys.stderr.isatty() else None,
        )
    sys.stdout.write(f"written: {', '.join(str(path) for path in written)}\n")
    return 0


def _add_export(subparsers: Any) -> None:
    export = subparsers.add_parser(
        "export", help="one compiled file for the ASE calculator, about three times faster", allow_abbrev=False
    )
    export.add_argument("checkpoint", metavar="MODEL.safetensors")
    export.add_argument("-o", "--output", required=True, metavar="FILE.pt2", help="FILE.pt for metatomic")
    export.add_argument(
        "--to",
        choices=("ase", "metatomic"),
        default="ase",
        help="ase: compiled, for the calculator of this library; metatomic: for engines with metatomic",
    )
    export.add_argument("--double", action="store_true", help="in double precision")
    export.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    add_trust(export)
    export.set_defaults(run=_export)


def _export(known: argparse.Namespace, rest: list[str]) -> int:
    if known.to == "metatomic":
        return _export_metatomic(known)
    from neural_polarization.interfaces.export import export

    sys.stderr.write("tracing and compiling: a minute or more\n")
    record = export(known.checkpoint, known.output, known.double, known.trust, known.overwrite).record
    sys.stdout.write(
        f"written: {known.output}: {record.network}, {record.precision}, checked against {known.checkpoint}; for "
        f"PyTorch {record.torch} on {record.machine}\n"
    )
    return 0


def _export_metatomic(known: argparse.Namespace) -> int:
    try:
        from neural_polarization.interfaces.metatomic import export_metatomic
    except ImportError as error:
        raise ImportError(
            f"--to metatomic: metatomic does not import ({error}): pip install 'neural-polarization[metatomic]'"
        ) from None
    export_metatomic(known.checkpoint, known.output, known.trust, known.overwrite)
    sys.stdout.write(f"written: {known.output}: for metatomic, float64, checked against {known.checkpoint}\n")
    return 0


def _progress(done: int, of: int) -> None:
    sys.stderr.write(f"\r{100 * done // of:3d} % of {of:,} points" + ("\n" if done == of else ""))
