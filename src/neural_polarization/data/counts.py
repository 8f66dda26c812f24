"""What was read from a file of labels: counts that a printout shows, so that nothing goes missing in silence."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import final

from neural_polarization.properties import FIELD
from neural_polarization.text import counted, table


@final
@dataclass(frozen=True)
class LabelCount:
    """Labels of one property.

    Attributes:
        source: its key in the file.
        labelled: structures with a label.
        unlabelled: structures without one; they serve the other properties.
        reason: why these have none, with an example.
    """

    source: str
    labelled: int
    unlabelled: int
    reason: str = ""


@final
@dataclass(frozen=True)
class Reading:
    """What came of a file.

    Attributes:
        structures: how many stand in the file.
        labels: counts by property.
        left_out: structures that are not in the data set, by reason.
        isolated_atoms: structures of a single neutral atom, which say what an element's reference energy is.
        notes: names that were taken for others, and names that look like labels and are not used.
    """

    structures: int
    labels: Mapping[str, LabelCount] = field(default_factory=lambda: MappingProxyType({}))
    left_out: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    isolated_atoms: int = 0
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        """The counts as a table, and a line for everything else that there is to say.

        Example:
            >>> print(Reading(20, {"energy": LabelCount("REF_energy", 10, 10, "no REF_energy, first structure 10")}))
            20 structures read
            property  key         with label  without  why
            energy    REF_energy  10          10       no REF_energy, first structure 10
        """
        head = ["property", "key", "with label", "without", "why"]
        rows = [
            [name, count.source, f"{count.labelled:,}", f"{count.unlabelled:,}", count.reason]
            for name, count in self.labels.items()
        ]
        lines = [f"{counted(self.structures, 'structure')} read"]
        lines += [line.rstrip() for line in table([head, *rows]).splitlines()] if rows else []
        lines += [f"left out: {number:,} ({reason})" for reason, number in self.left_out.items()]
        lines += [f"isolated atoms: {self.isolated_atoms:,}"] if self.isolated_atoms else []
        return "\n".join([*lines, *self.notes])


def warn_of_fields(source: str, inside: int, total: int) -> None:
    """Warns of labels in electric fields where the fields are not read, and the labels pass for those without a field.

    Args:
        source: the file.
        inside: how many structures are in a field.
        total: how many structures there are.
    """
    if inside:
        warnings.warn(
            f"{source}: {inside} of {counted(total, 'structure')} are in electric fields ({FIELD}), which are not "
            f"read: their labels count as labels without a field. Add {FIELD} to data.properties (for a model with a "
            "response), or leave these structures out",
            stacklevel=3,
        )


def joined_readings(readings: Sequence[Reading]) -> Reading:
    """The counts of several files together, for the properties of the first.

    Example:
        >>> one = Reading(3, {"energy": LabelCount("energy", 2, 1, "NaN in energy")}, {"no label": 1})
        >>> print(joined_readings([one, Reading(2)]))
        5 structures read
        property  key     with label  without  why
        energy    energy  2           3        NaN in energy
        left out: 1 (no label)
    """
    labels: dict[str, LabelCount] = {}
    for name, first in readings[0].labels.items() if readings else ():
        counts = [reading.labels.get(name, LabelCount(name, 0, reading.structures)) for reading in readings]
        labels[name] = LabelCount(
            first.source,
            sum(count.labelled for count in counts),
            sum(count.unlabelled for count in counts),
            next((count.reason for count in counts if count.reason), ""),
        )
    left_out: Counter[str] = Counter()
    for reading in readings:
        left_out.update(reading.left_out)
    return Reading(
        structures=sum(reading.structures for reading in readings),
        labels=labels,
        left_out=dict(left_out),
        isolated_atoms=sum(reading.isolated_atoms for reading in readings),
        notes=list(dict.fromkeys(note for reading in readings for note in reading.notes)),
    )
