"""`npol info`: what a checkpoint is, for people and for programs."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from neural_polarization.checkpoints import load_model
from neural_polarization.evaluation.reports import PARTS, errors_table
from neural_polarization.facts import formula_of
from neural_polarization.interfaces.prediction import internal_unit
from neural_polarization.settings import plain
from neural_polarization.text import counted
from neural_polarization.units import factor


def info(checkpoint: str | Path, trust: Collection[str] = ()) -> dict[str, Any]:
    """Model, data, units, parameters, metrics and versions of a checkpoint, as plain values.

    Args:
        checkpoint: the file.
        trust: modules of networks of one's own that may be imported (see `load_model`).
    """
    model, stored = load_model(checkpoint, trust)
    return {
        "file": str(stored.path),
        "model": plain(model.config),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "precision": str(next(model.parameters()).dtype).removeprefix("torch."),
        "split": {name: len(stored.tensors[f"split.{name}"]) for name in PARTS if f"split.{name}" in stored.tensors},
        "versions": stored.versions,
        "knowledge": None if model.knowledge is None else plain(model.knowledge),
        **stored.metadata,
    }


def describe(values: Mapping[str, Any]) -> str:
    """The same for people."""
    model = values["model"]
    backbone, polarization = model["backbone"], model["polarization"]
    shown = (("channels", "{} channels"), ("num_layers", "{} layers"), ("cutoff", "cutoff {} Angstrom"))
    sizes = "".join(f", {text.format(backbone[key])}" for key, text in shown if backbone[key] is not None)
    lines = [
        f"{values['file']}: {values.get('name', 'a model')}",
        f"  network      {backbone['name']}{sizes}",
        f"  polarization {polarization['messages']}, limit {polarization['limit']} Angstrom, "
        f"move {polarization['move']}, {polarization['lengths']} lengths",
        f"  elements     {', '.join(model['elements'])}",
        f"  parameters   {values['parameters']:,} ({values['precision']})",
    ]
    properties = values.get("properties", {})
    for name, head in model["heads"].items():
        unit = f", errors in {properties[name]['unit']}" if name in properties else ""
        lines.append(f"  predicts     {name}: {head['kind']}{', with forces' if head['forces'] else ''}{unit}")
    if model["electronic"] != "none":
        lines.append(f"  sees         {model['electronic'].replace('_', ' ')} of a molecule")
    density = model.get("density")
    if density is not None:
        lines.append(f"  predicts     electron density: {density['size']} basis, centres {density['centres']}")
    if "data" in values:
        data = values["data"]
        lines.append(f"  data         {data['path']} ({data['format']})")
    if values["split"]:
        parts = ", ".join(f"{name} {size}" for name, size in values["split"].items())
        lines.append(f"  split        {parts} (by {values.get('split_by', 'structure')})")
    if "training" in values:
        training = values["training"]
        lines.append(f"  training     best of epoch {values.get('epoch')}, seed {training['seed']}")
    lines += [f"  {heading:<12} {text}" for heading, text in _learned_from(values["knowledge"], properties)]
    lines.append("  versions     " + ", ".join(f"{name} {version}" for name, version in values["versions"].items()))
    metrics = values.get("metrics", {})
    if metrics:
        units = {name: kind["unit"] for name, kind in properties.items()}
        lines += ["", errors_table({"units": units, **metrics})]
    return "\n".join(lines)


def _learned_from(knowledge: Mapping[str, Any] | None, properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the model was trained on, a heading and a text each, in the units of predictions."""
    units = {name: internal_unit(kind["unit"]) for name, kind in properties.items()}

    def shown(name: str, value: float) -> str:
        return f"{value / factor(units[name]) if name in units else value:.6g}"

    def unit(name: str) -> str:
        return units.get(name, "internal unit")

    if knowledge is None:
        yield (
            "learned from",
            "not known (written by release 0.1.0, or never trained): no warning outside of its training data",
        )
        return
    atoms = ", ".join(f"{symbol} {count:,}" for symbol, count in knowledge["elements"].items())
    yield "learned from", f"{counted(knowledge['structures'], 'structure')}, atoms {atoms}"
    missing = [symbol for symbol, count in knowledge["elements"].items() if not count]
    if missing:
        yield "refuses", f"{', '.join(missing)}: named, but in no training structure"
    for name, references in knowledge["references"].items():
        values = ", ".join(
            f"{symbol} {shown(name, value)} ({references['sources'][symbol]})"
            for symbol, value in references["values"].items()
        )
        rank, count = len(references["compositions"]), len(references["values"])
        known = (
            "all compositions"
            if rank == count
            else f"rank {rank} of {count}: "
            + ", ".join(
                formula_of(dict(zip(references["values"], row, strict=True))) for row in references["compositions"]
            )
        )
        yield "references", f"{name}: {values}, {unit(name)}; right for {known}"
    if knowledge["stress"]:
        yield "stress", f"learned, root mean square {knowledge['stress']:.4g} eV/Angstrom^3"
    for name, (low, high) in knowledge["ranges"].items():
        yield "range", f"{name} {shown(name, low)} to {shown(name, high)} {unit(name)}"
    for name, (low, high) in knowledge["per_atom"].items():
        yield "per atom", f"{name} {shown(name, low)} to {shown(name, high)} {unit(name)} about the references"
    nearest = {pair: ends for pair, ends in (knowledge["contacts"] or {}).items() if ends[1]}
    if nearest:
        text = ", ".join(f"{pair} {low:.3f} to {high:.3f}" for pair, (low, high) in nearest.items())
        yield "distances", f"of nearest neighbours, Angstrom: {text}"
    if knowledge["lone"]:
        yield "lone", f"atoms without a neighbour: {', '.join(knowledge['lone'])}"
    if knowledge["largest_molecule"]:
        yield "largest", counted(knowledge["largest_molecule"], "atom")
    if knowledge["charges"]:
        yield "charges", ", ".join(f"{charge:+g}" if charge else "0" for charge in knowledge["charges"])
    if knowledge["strongest_field"]:
        yield "fields", f"up to {knowledge['strongest_field']:.3g} V/Angstrom"
    if knowledge["spins"]:
        yield "unpaired", f"electrons of a molecule: {', '.join(f'{spin:g}' for spin in knowledge['spins'])}"
    if knowledge["periodic"]:
        yield "kinds", " and ".join("periodic systems" if is_so else "molecules" for is_so in knowledge["periodic"])
    if knowledge["dipole_origin"]:
        yield "dipoles", f"of ions: about the {knowledge['dipole_origin']}"
    if knowledge["content_hash"]:
        yield "contents", f"SHA-256 of the data {knowledge['content_hash']}"
