"""Every quantity that has a name here: its unit, shape and definition, in one table."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from neural_polarization.units import factor

FORCES = "forces"
"""Name of the predictions, and of the labels, that are minus the gradient of the energy."""

STRESS = "stress"
"""Name of the predictions, and of the labels, that are the derivative of the energy by the strain per volume."""

DISPLACEMENT = "displacement"
"""Name of the displacements in every output."""

DENSITY = "density"
"""Name of the density's error among predictions, losses and errors: a number of each molecule, whose label is zero."""

BORN_CHARGES = "born_charges"
"""Name of the Born charges in data sets and in every output."""

FIELD = "external_field"
"""Name of a structure's electric field, V/Angstrom, in `atoms.info` and among labels: something to predict in, not to
predict. NaN among labels is no field."""


@dataclass(frozen=True)
class Property:
    """A labelled quantity.

    Attributes:
        name: the key of its labels.
        unit: customary unit, in which results are shown; labels themselves are in internal units.
        shape: axes of one value: () for a number, (3,) for a vector, (3, 3) for a tensor.
        per_atom: one value per atom instead of one per molecule.

    Raises:
        ValueError: for a unit that is not known.
    """

    name: str
    unit: str
    shape: tuple[int, ...] = ()
    per_atom: bool = False

    def __post_init__(self) -> None:
        factor(self.unit)


@dataclass(frozen=True)
class Definition:
    """What a name means wherever it stands: in files of labels, in data sets, in results.

    Attributes:
        name: the key.
        unit: of the stored numbers, the internal one.
        meaning: definition, with the origin or sign where there is a choice.
        shown_in: customary unit, in which results are shown; `unit` if left out.
        shape: axes of one value.
        per: what there is one value of; only values of molecules and atoms are trained on.
        quantity: what `npol label --quantities` calls it; labels without one are always computed.
        synonyms: other names in files, for values in the same unit.
    """

    name: str
    unit: str
    meaning: str
    shown_in: str = ""
    shape: tuple[int, ...] = ()
    per: Literal["molecule", "atom", "orbital", "pair of functions"] = "molecule"
    quantity: str = ""
    synonyms: tuple[str, ...] = ()

    @property
    def trainable(self) -> bool:
        """Whether there is one value per molecule or one per atom, as in a data set."""
        return self.per in ("molecule", "atom")

    @property
    def property(self) -> Property:
        """The labelled quantity of a data set."""
        return Property(self.name, self.shown_in or self.unit, self.shape, self.per == "atom")


_ORIGIN = "about the centre of nuclear charge"

DEFINITIONS: Mapping[str, Definition] = MappingProxyType(
    {
        definition.name: definition
        for definition in (
            Definition(
                "energy",
                "eV",
                "total electronic energy with nuclear repulsion; in a field, of molecule and field, of ions about the "
                "centre of nuclear charge",
                "meV",
                synonyms=("REF_energy",),
            ),
            Definition(
                "forces",
                "eV/Angstrom",
                "minus the derivative of the energy by the nuclei",
                "meV/Angstrom",
                shape=(3,),
                per="atom",
                quantity="forces",
                synonyms=("REF_forces", "force"),
            ),
            Definition(
                "stress",
                "eV/Angstrom^3",
                "derivative of the energy by the strain, divided by the volume: xx, yy, zz, yz, xz, xy, as in ASE",
                "meV/Angstrom^3",
                shape=(6,),
                synonyms=("REF_stress",),
            ),
            Definition(
                "dipole",
                "e*Angstrom",
                f"from negative to positive, {_ORIGIN}",
                "mD",
                shape=(3,),
                synonyms=("REF_dipole", "dipole_moment"),
            ),
            Definition("external_field", "V/Angstrom", "uniform electric field in which the labels are", shape=(3,)),
            Definition("quadrupole", "e*Angstrom^2", f"sum of q (3 r r - r^2) / 2 {_ORIGIN}, traceless", shape=(3, 3)),
            Definition(
                "polarizability",
                "Angstrom^3",
                "static dipole polarizability as a volume",
                shape=(3, 3),
                quantity="polarizability",
                synonyms=("REF_polarizability",),
            ),
            Definition(
                "born_charges",
                "e",
                "derivative of each dipole component (last axis) by each coordinate: Born effective charges",
                shape=(3, 3),
                per="atom",
                quantity="born_charges",
            ),
            Definition("spatial_extent", "Angstrom^2", f"integral of the density times r^2 {_ORIGIN} (QM9: R2)"),
            Definition("homo", "eV", "energy of the highest occupied orbital of either spin", "meV"),
            Definition("lumo", "eV", "energy of the lowest empty orbital of either spin", "meV"),
            Definition("gap", "eV", "lumo - homo", "meV"),
            Definition(
                "mulliken_charges", "e", "nuclear charge less Mulliken population", per="atom", quantity="charges"
            ),
            Definition(
                "hirshfeld_charges",
                "e",
                "nuclear charge less Hirshfeld's share of the density",
                per="atom",
                quantity="charges",
            ),
            Definition(
                "centroid_positions",
                "Angstrom",
                "mean positions of Boys-localized occupied orbitals",
                shape=(3,),
                per="orbital",
                quantity="centroids",
            ),
            Definition(
                "centroid_occupations", "e", "electrons in each localized orbital", per="orbital", quantity="centroids"
            ),
            Definition(
                "centroid_spreads",
                "Angstrom",
                "root of <r^2> - <r>^2 of each localized orbital",
                per="orbital",
                quantity="centroids",
            ),
            Definition(
                "centroid_owners",
                "1",
                "the two atoms of the bond, or one atom twice (core, lone pair), by population",
                shape=(2,),
                per="orbital",
                quantity="centroids",
            ),
            Definition(
                "density_matrix",
                "1",
                "lower triangle, row by row, of the density matrix in PySCF's functions of the level, both spins",
                per="pair of functions",
                quantity="density",
            ),
        )
    }
)
"""Every label that the library computes or reads under a name of its own; a new label is one more line here."""

LARGEST_LABEL = 1e30
"""A value beyond this, in internal units, is a mistake, and no number in single precision."""

QUANTITIES: tuple[str, ...] = tuple(
    dict.fromkeys(definition.quantity for definition in DEFINITIONS.values() if definition.quantity)
)
"""What `npol label` may be asked for beside what it always computes."""

USUAL_QUANTITIES: tuple[str, ...] = tuple(name for name in QUANTITIES if name != "born_charges")
"""What it computes if it is not told; Born charges cost six more calculations of each structure."""

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""The components of a stress in ASE's order: xx, yy, zz, yz, xz, xy."""

VIRIALS = ("virial", "virials", "REF_virial", "REF_virials")
"""Names in files of minus the stress times the volume, eV: read as stress."""

STATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "charge": ("charge", "total_charge", "net_charge", "molecular_charge"),
        "spin": ("spin", "unpaired_electrons", "num_unpaired_electrons"),
        "multiplicity": ("multiplicity", "mult", "spin_multiplicity"),
    }
)
"""Names in files of the total charge (e), the number of unpaired electrons, and that number plus one."""

AMBIGUOUS = frozenset({"totalspin", "spinstate"})
"""Normalized names that some programs use for the spin and others for the multiplicity."""


def normalized(name: object) -> str:
    """A name without the differences that people do not mean: case, underscores, hyphens.

    Keys of `atoms.info` need not be text.

    Example:
        >>> normalized("Total-Charge"), normalized("REF_energy")
        ('totalcharge', 'refenergy')
    """
    return str(name).lower().replace("_", "").replace("-", "").replace(" ", "")


_LABELS: Mapping[str, str] = MappingProxyType(
    {
        normalized(other): definition.name
        for definition in DEFINITIONS.values()
        if definition.trainable
        for other in (definition.name, *definition.synonyms)
    }
)
_LIKE = ("energy", "forces", "stress", "virial", "dipole", "polarizability")


def label_of(name: str) -> str | None:
    """The quantity that a name in a file means, if it is one that everybody understands.

    Example:
        >>> label_of("REF_energy"), label_of("Forces"), label_of("dft_energy")
        ('energy', 'forces', None)
    """
    return _LABELS.get(normalized(name))


def is_virial(name: str) -> bool:
    """Whether a name in a file is one of `VIRIALS`.

    Example:
        >>> is_virial("Virial"), is_virial("stress")
        (True, False)
    """
    return normalized(name) in {normalized(other) for other in VIRIALS}


def looks_like(name: str) -> str | None:
    """The quantity that a name suggests, though it says neither level nor unit.

    Example:
        >>> looks_like("dft_energy"), looks_like("smiles")
        ('energy', None)
    """
    plain = normalized(name)
    return next((word for word in _LIKE if word.removesuffix("s") in plain), None)
