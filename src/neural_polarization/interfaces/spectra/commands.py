"""The command `npol spectrum`. Nothing heavy is imported before it runs."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from neural_polarization.interfaces.commands import add_choice
from neural_polarization.text import finite, seed


def add_parser(subparsers: Any) -> None:
    """Registers the command, as `cli.parser` describes it."""
    spectrum = subparsers.add_parser(
        "spectrum", help="infrared and Raman spectrum of a molecule, harmonic or from dynamics", allow_abbrev=False
    )
    add_choice(spectrum)
    spectrum.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="figure, .png, .svg or .pdf; a .csv is beside it"
    )
    spectrum.add_argument("--width", type=finite, default=10.0, metavar="1/CM", help="of a line; default 10")
    spectrum.add_argument(
        "--keep-geometry", action="store_true", help="take the structure as it is, instead of relaxing it first"
    )
    spectrum.add_argument(
        "--dynamics", type=finite, metavar="PS", help="spectrum of a dynamics of this length, for instance 20"
    )
    spectrum.add_argument("--temperature", type=finite, metavar="K", help="of the dynamics; default 300")
    spectrum.add_argument("--timestep", type=finite, metavar="FS", help="of the dynamics; default 0.5")
    spectrum.add_argument("--equilibration", type=finite, metavar="PS", help="with a thermostat before; default 2")
    spectrum.add_argument("--seed", type=seed, help="of the velocities; default 0")
    spectrum.set_defaults(run=_spectrum, takes="files")


_OF_DYNAMICS = ("temperature", "timestep", "equilibration", "seed")


def _spectrum(known: argparse.Namespace, rest: list[str]) -> int:
    from neural_polarization.interfaces.chosen import checkpoint_and_files, chosen_model, chosen_structures
    from neural_polarization.interfaces.prediction import check_elements
    from neural_polarization.interfaces.spectra.dynamics import DynamicsConfig
    from neural_polarization.interfaces.spectra.outputs import check_spectrum
    from neural_polarization.interfaces.spectra.spectrum import write_spectrum

    checkpoint, files = checkpoint_and_files(known, rest)
    output = Path(known.output)
    check_spectrum(output, known.overwrite)
    options: dict[str, Any] = {name: vars(known)[name] for name in _OF_DYNAMICS if vars(known)[name] is not None}
    dynamics = None
    if known.dynamics is not None:
        dynamics = replace(DynamicsConfig(known.dynamics), **options)
    elif options:
        raise ValueError(f"--{next(iter(options))}: is an option of a dynamics; give --dynamics PS too")
    model, _ = chosen_model(known, checkpoint)
    structures, names = chosen_structures(known, files)
    check_elements(model, structures, names)
    if len(structures) != 1:
        raise ValueError(f"spectrum: expected one molecule, got {len(structures)} structures; give one of them")
    report = _progress if sys.stderr.isatty() else None
    spectrum = write_spectrum(
        model, structures[0], output, known.width, not known.keep_geometry, dynamics, known.overwrite, report
    )
    sys.stdout.write(f"{spectrum}\nwritten: {output}, {output.with_suffix('.csv')}\n")
    return 0


def _progress(done: int, of: int) -> None:
    if done == of or done % 100 == 0:
        sys.stderr.write(f"\r{100 * done // of:3d} % of {of:,} steps" + ("\n" if done == of else ""))
