"""The commands `npol enumerate`, `sample`, `label` and `pack`. Nothing heavy is imported before one runs."""

import argparse
import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..properties import QUANTITIES, USUAL_QUANTITIES
from ..text import at_least_one, counted, finite, seed

if TYPE_CHECKING:
    import ase

    from .jobs import Summary


def add_parsers(subparsers: Any) -> None:
    """Registers the commands, as `cli.parser` describes them."""
    _add_enumerate(subparsers)
    _add_sample(subparsers)
    _add_label(subparsers)
    _add_pack(subparsers)


def _add_enumerate(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "enumerate", help="structures of all small molecules of C, N, O, F and H", allow_abbrev=False
    )
    command.add_argument("heavy_atoms", type=int, metavar="N", help="most atoms other than hydrogen in a molecule")
    command.add_argument("-o", "--output", required=True, metavar="FILE.extxyz")
    command.add_argument("--smallest", type=int, default=1, metavar="N", help="fewest heavy atoms; default 1")
    command.add_argument(
        "--largest-sample",
        type=at_least_one,
        metavar="K",
        help="of the molecules with N heavy atoms take K, drawn at random",
    )
    command.add_argument("--strained", action="store_true", help="also triple and cumulated bonds in small rings")
    command.add_argument(
        "--frames", type=at_least_one, default=8, metavar="K", help="per molecule: relaxed, then displaced"
    )
    command.add_argument("--temperature", type=finite, default=500.0, metavar="KELVIN", help="of the displacements")
    command.add_argument("--seed", type=seed, default=0)
    command.add_argument(
        "--relax", metavar="METHOD/BASIS", help="relax at this level after the force field, for instance PBE/def2-SVP"
    )
    command.add_argument("--overwrite", action="store_true", help="replace the output file")
    command.set_defaults(run=_run_enumerate)


def _add_sample(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "sample", help="structures of molecules along a dynamics in a force field", allow_abbrev=False
    )
    command.add_argument("smiles", nargs="+", metavar="SMILES", help="of the molecules")
    command.add_argument("-o", "--output", required=True, metavar="FILE.extxyz")
    command.add_argument("--frames", type=int, default=500, metavar="K", help="of each molecule; default 500")
    command.add_argument("--temperature", type=finite, default=500.0, metavar="KELVIN", help="default 500")
    command.add_argument("--interval", type=finite, default=50.0, metavar="FS", help="between frames; default 50 fs")
    command.add_argument("--seed", type=seed, default=0)
    command.add_argument("--overwrite", action="store_true", help="replace the output file")
    command.set_defaults(run=_run_sample)


def _add_label(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "label", help="labels of structures from density functional theory", allow_abbrev=False
    )
    command.add_argument("structures", nargs="+", metavar="FILE", help=".xyz, .extxyz, .sdf, .mol or .smi")
    command.add_argument("-o", "--output", required=True, metavar="LABELS.h5", help="made, or continued")
    command.add_argument(
        "--level",
        default="B3LYP/6-31G(2df,p)",
        metavar="METHOD/BASIS",
        help="default: B3LYP/6-31G(2df,p), which is QM9's",
    )
    command.add_argument(
        "--accuracy", choices=("fast", "standard", "exact"), default="standard", help="of integrals and convergence"
    )
    command.add_argument(
        "--max-cycles", type=int, metavar="N", help="iterations of either solver before a structure counts as failed"
    )
    command.add_argument(
        "--quantities",
        nargs="+",
        action="extend",
        choices=QUANTITIES,
        metavar="NAME",
        help=f"beside energy, dipole, quadrupole and orbital energies: some of {' '.join(QUANTITIES)}; default: all "
        "but born_charges, which take six more calculations of each structure",
    )
    command.add_argument(
        "--fraction",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=SHARE",
        help="give a quantity to a random share of the structures, for instance polarizability=0.3",
    )
    command.add_argument(
        "--field",
        nargs=3,
        type=float,
        metavar=("X", "Y", "Z"),
        help="label structures in this field, V/Angstrom, unless they have an external_field of their own",
    )
    command.add_argument(
        "--random-fields",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="label structures in random fields of this strength, V/Angstrom, for instance 0.2 1.0",
    )
    command.add_argument("--per-structure", type=int, metavar="N", help="random fields of each structure; default 1")
    command.add_argument("--charge", type=int, help="e, for structures that say nothing about it; default 0")
    command.add_argument("--spin", type=int, help="unpaired electrons, for structures that say nothing; default 0")
    command.add_argument("--workers", type=int, default=1, metavar="N", help="processes of one thread each")
    command.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, or 'local' for one on this machine")
    command.add_argument("--gpu", action="store_true", help="energy and forces on a graphics processor (gpu4pyscf)")
    command.add_argument("--seed", type=seed, default=0, help="of the embedding of SMILES and of random fields")
    command.add_argument(
        "--retry-failed", action="store_true", help="try structures again that failed before, and quantities that did"
    )
    command.set_defaults(run=_run_label)


def _add_pack(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "pack", help="files of labels, or extended XYZ, to a data set to train on", allow_abbrev=False
    )
    command.add_argument(
        "labels", nargs="+", metavar="FILE", help="LABELS.h5 of `npol label`; or one extended XYZ file or ASE database"
    )
    command.add_argument(
        "--property",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=KEY:UNIT",
        help="labels of extended XYZ, for instance energy=E_dft:hartree; default: energy, forces and dipole",
    )
    command.add_argument("--group", metavar="KEY", help="of extended XYZ: equal for geometries of one molecule")
    command.add_argument("-o", "--output", required=True, metavar="SET.npz")
    command.add_argument("--densities", metavar="DENSITIES.npz", help="also fitted densities and orbital centroids")
    command.add_argument("--seed", type=seed, default=0, help="of the split")
    command.add_argument("--overwrite", action="store_true", help="replace files that are there")
    command.set_defaults(run=_run_pack)


def _run_enumerate(arguments: argparse.Namespace, rest: Sequence[str] = ()) -> int:
    from .calculation import Request
    from .enumeration import Sampling, choose, enumerate_smiles, structures
    from .level import Level
    from .mean_field import FAST
    from .relaxation import relax

    output = _new_structures(arguments)
    smiles = choose(
        enumerate_smiles(arguments.heavy_atoms, arguments.strained),
        arguments.smallest,
        arguments.largest_sample,
        arguments.seed,
    )
    if not smiles:
        raise ValueError(
            f"--smallest {arguments.smallest}: no molecule has as many heavy atoms, of at most "
            f"{arguments.heavy_atoms}; give a smaller number"
        )
    request = Request(Level.parse(arguments.relax), FAST) if arguments.relax else None
    sampling = Sampling(arguments.frames, arguments.temperature, arguments.seed)
    made = structures(smiles, sampling, None if request is None else lambda atoms: relax(atoms, request))
    _write_structures(output, made)
    molecules = len({atoms.info["smiles"] for atoms in made})
    sys.stdout.write(
        f"{output}: {counted(len(made), 'structure')} of {counted(molecules, 'molecule')} ({len(smiles)} enumerated)\n"
    )
    return 0


def _run_sample(arguments: argparse.Namespace, rest: Sequence[str] = ()) -> int:
    from .dynamics import Dynamics, sample

    output = _new_structures(arguments)
    dynamics = Dynamics(arguments.frames, arguments.temperature, arguments.interval, seed=arguments.seed)
    made = sample(arguments.smiles, dynamics)
    _write_structures(output, made)
    sys.stdout.write(f"{output}: {counted(len(made), 'structure')} of {counted(len(arguments.smiles), 'molecule')}\n")
    return 0


def _run_label(arguments: argparse.Namespace, rest: Sequence[str] = ()) -> int:
    from ..structures import check_electrons, check_isolated, read_structures
    from . import gpu
    from .calculation import Request
    from .fields import in_random_fields
    from .jobs import dask_cluster, processes, run
    from .level import Level
    from .mean_field import EXACT, FAST, Accuracy

    accuracy = {"fast": FAST, "standard": Accuracy(), "exact": EXACT}[arguments.accuracy]
    if arguments.max_cycles is not None:
        accuracy = replace(accuracy, max_cycles=arguments.max_cycles)
    x, y, z = arguments.field or (0.0, 0.0, 0.0)
    request = Request(
        level=Level.parse(arguments.level),
        accuracy=accuracy,
        quantities=tuple(arguments.quantities or USUAL_QUANTITIES),
        fractions=_shares(arguments.fraction),
        field=(x, y, z),
        gpu=arguments.gpu,
    )
    if arguments.random_fields is None and arguments.per_structure is not None:
        raise ValueError("--per-structure: is the number of random fields; give --random-fields LOW HIGH too")
    if arguments.random_fields is not None and arguments.field is not None:
        raise ValueError("--field: fields are random, or the same for all; leave out --random-fields or --field")
    if request.gpu:
        gpu.check(request.level)
    given = {"charge": arguments.charge, "spin": arguments.spin}
    assumed = {name: value for name, value in given.items() if value is not None}
    structures: list[Any] = []
    for name in arguments.structures:
        for index, atoms in enumerate(read_structures(name, arguments.seed, assumed)):
            check_isolated(atoms, f"{name}: structure {index}")
            check_electrons(atoms, f"{name}: structure {index}")
            request.at(atoms, f"{name}: structure {index}")
            structures.append(atoms)
    if arguments.random_fields is not None:
        low, high = arguments.random_fields
        each = 1 if arguments.per_structure is None else arguments.per_structure
        structures = in_random_fields(structures, low, high, each, arguments.seed)
    elements = {symbol for atoms in structures for symbol in atoms.get_chemical_symbols()}
    request.level.check(elements)
    accuracy.check(elements)
    if arguments.scheduler is not None:
        engine = dask_cluster(None if arguments.scheduler == "local" else arguments.scheduler, arguments.workers)
    else:
        engine = processes(arguments.workers)
    output = Path(arguments.output)
    summary = run(structures, request, output, engine, arguments.retry_failed)
    sys.stdout.write(
        f"{output}: {summary.done} labelled, {summary.failed} failed, {summary.skipped} were there already\n"
    )
    if summary.done and summary.skipped:
        sys.stdout.write(
            "labels that are computed after an interruption start from another guess than in one run, and may differ "
            "from its labels by a few meV/Angstrom\n"
        )
    return _report_failures(summary, output)


def _report_failures(summary: "Summary", output: Path) -> int:
    """Writes how many structures lack requested labels. The exit code is 1 if no structure has all of them."""
    complete = summary.labelled > summary.lacking
    if complete and not summary.lacking:
        return 0
    if complete:
        what = f"of {counted(summary.labelled, 'labelled structure')} {summary.lacking} have not all quantities"
    elif summary.labelled:
        what = "none of these structures has all quantities"
    else:
        what = "none of these structures has labels"
    sys.stderr.write(f"npol: {what} in {output}, which holds the reason of each; --retry-failed tries them again\n")
    return 0 if complete else 1


def _run_pack(arguments: argparse.Namespace, rest: Sequence[str] = ()) -> int:
    from .packing import check_output, pack

    target = Path(arguments.output)
    if not any(_is_hdf5(name) for name in arguments.labels):
        if len(arguments.labels) != 1 or arguments.densities:
            raise ValueError(
                f"{arguments.labels[-1]}: is no file of labels (HDF5); of extended XYZ one file is packed at a time, "
                "without densities"
            )
        check_output(target, [Path(arguments.labels[0])], arguments.overwrite)
        return _pack_structures(Path(arguments.labels[0]), target, arguments.property, arguments.group)
    packed = pack(
        [Path(name) for name in arguments.labels],
        target,
        None if arguments.densities is None else Path(arguments.densities),
        arguments.seed,
        arguments.overwrite,
    )
    sys.stdout.write(
        f"{target}: {counted(packed.structures, 'structure')} of {counted(packed.molecules, 'molecule')}, "
        f"{packed.polarizabilities} polarizabilities, {packed.densities} densities; {packed.failed} failed and were "
        "left out\n"
    )
    return 0


def _pack_structures(source: Path, target: Path, words: Sequence[str], group: str | None) -> int:
    """Extended XYZ as a packed data set, so that its text is parsed once."""
    from ..data.columns import PropertyConfig
    from ..data.config import DataConfig
    from ..data.packed import write_packed
    from ..data.sources import open_dataset

    properties: dict[str, PropertyConfig] = {}
    for word in words:
        name, equals, place = word.partition("=")
        key, _, unit = place.partition(":")
        if not (name and equals and key):
            raise ValueError(f"--property {word!r}: expected NAME=KEY:UNIT such as energy=E_dft:hartree")
        properties[name] = PropertyConfig(source=key, unit=unit or None)
    config = DataConfig(format="extxyz", path=str(source), properties=properties or None, group=group, cache=False)
    dataset = open_dataset(config)
    write_packed(dataset, target)
    sys.stdout.write(
        f"{dataset.reading}\n{target}: {counted(len(dataset), 'structure')}; train on it with format: packed\n"
    )
    return 0


def _is_hdf5(name: str) -> bool:
    """By the name where it is not there: the error that follows says so."""
    path = Path(name)
    if not path.is_file():
        return path.suffix in (".h5", ".hdf5")
    with path.open("rb") as file:
        start = file.read(520)  # files of `npol label` begin with a checksum of 512 bytes
    return b"\x89HDF\r\n\x1a\n" in (start[:8], start[512:]) or path.suffix in (".h5", ".hdf5")


def _new_structures(arguments: argparse.Namespace) -> Path:
    """Where structures are written, if that can be."""
    from ..files import refuse_existing

    output = Path(arguments.output)
    if output.suffix != ".extxyz":
        raise ValueError(f"{output}: expected the ending .extxyz, which keeps SMILES and numbers of molecules")
    refuse_existing(output, arguments.overwrite)
    return output


def _write_structures(output: Path, structures: "Sequence[ase.Atoms]") -> None:
    """Extended XYZ that is complete or not there."""
    import ase.io

    from ..files import write_text

    text = io.StringIO()
    ase.io.write(text, structures, format="extxyz")
    write_text(output, text.getvalue())


def _shares(words: Sequence[str]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for word in words:
        name, equals, value = word.partition("=")
        try:
            shares[name] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError(f"--fraction {word!r}: expected NAME=SHARE such as polarizability=0.3")
    return shares
