"""The front of cost and error: force errors of every network on ethanol, plain and riding, against time and parameters.

    python experiments/backbones/front.py time runs/backbones/front.json
    python experiments/backbones/front.py draw runs/backbones/front.json docs/pictures/front.png

Errors are those of `rmd17.yaml` (300 frames, 900 and 3,000 steps) and `../rmd17/published.yaml` (950 frames, 15,200
to 76,000 steps), all with 3 layers, which `errors.csv` keeps: `collect.py` prints them from the results of trainings.
Riding's error is plain's times the mean ratio. `time` measures steps of energies and forces of ten ethanols at the
sizes that were trained, with the present moves; all networks take turns on one thread. The picture has times relative
to that of `UNIT`, because milliseconds differ from machine to machine.
"""

import argparse
import csv
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from ase.build import molecule

from neural_polarization.architectures import BackboneConfig
from neural_polarization.files import write_json
from neural_polarization.messages import Messages
from neural_polarization.models import HeadConfig, Model, ModelConfig, PolarizationConfig
from neural_polarization.molecules import Molecules

mpl.use("Agg")
import matplotlib.pyplot as plt

CHOICES = (Messages.PLAIN, Messages.RIDING)
SHOWN = {
    "schnet": "SchNet",
    "cgcnn": "CGCNN",
    "dimenet": "DimeNet++",
    "egnn": "EGNN",
    "painn": "PaiNN",
    "torchmd_et": "ET",
    "gvp": "GVP",
    "tfn": "TFN",
    "nequip": "NequIP",
    "so3krates": "SO3krates",
    "mace": "MACE",
    "se3_transformer": "SE(3)-Tr.",
}
BELOW, RIGHT = (("nequip", 900), ("mace", 15200)), (("nequip", 15200), ("nequip", 60800), ("painn", 76000))
"""Networks and steps whose name stands below or right of their point, so that it does not cover another one."""
UNIT = "painn, 64 channels"
"""Network whose plain step is the unit of time."""
COLOURS = {900: "tab:grey", 3000: "tab:blue", 15200: "tab:red", 60800: "tab:purple", 76000: "tab:green"}
"""Colour of errors after so many steps."""


@dataclass(frozen=True)
class Trained:
    """Errors of one network after one number of steps.

    Attributes:
        name: of the architecture.
        channels: of the network.
        frames: number of those it was trained on.
        steps: of the training.
        plain: force error of the plain network, meV/Angstrom, mean over seeds.
        ratio: of riding's force error to plain's, mean over seeds.
        seeds: number of them.
    """

    name: str
    channels: int
    frames: int
    steps: int
    plain: float
    ratio: float
    seeds: int

    @property
    def size(self) -> str:
        """Name and channels."""
        return f"{self.name}, {self.channels} channels"


def read_errors() -> list[Trained]:
    """The rows of `errors.csv`."""
    with (Path(__file__).parent / "errors.csv").open(encoding="utf-8", newline="") as file:
        return [
            Trained(
                row["name"],
                int(row["channels"]),
                int(row["frames"]),
                int(row["steps"]),
                float(row["plain"]),
                float(row["ratio"]),
                int(row["seeds"]),
            )
            for row in csv.DictReader(file)
        ]


def model_of(row: Trained, messages: Messages) -> Model:
    """A new model of the size that was trained."""
    backbone = BackboneConfig(row.name, row.channels, 3, 5.0)
    heads = {"energy": HeadConfig("extensive", forces=True)}
    return Model(ModelConfig(("H", "C", "O"), heads, backbone, PolarizationConfig(messages))).train()


def measure(path: Path, rounds: int) -> None:
    """Writes time of a step (ms, median) and parameters of every network."""
    frames = [molecule("CH3CH2OH") for _ in range(10)]
    for seed, frame in enumerate(frames):
        frame.rattle(0.1, seed=seed)
    rows = {row.size: row for row in read_errors()}
    models = {(size, choice): model_of(row, choice) for size, row in rows.items() for choice in CHOICES}
    molecules = Molecules.from_ase(frames, 5.0, torch.float32)
    seconds: dict[tuple[str, Messages], list[float]] = {key: [] for key in models}
    for turn in range(rounds + 1):
        for key, model in models.items():
            model.zero_grad()
            started = time.process_time()
            found = model(molecules)
            (found["energy"].square().mean() + found["forces"].square().mean()).backward()
            if turn:  # the first one warms up
                seconds[key].append(time.process_time() - started)
    costs: dict[str, Any] = {}
    for (size, choice), of_model in seconds.items():
        count = sum(weight.numel() for weight in models[size, choice].parameters())
        costs.setdefault(size, {})[choice.value] = {"ms": 1e3 * statistics.median(of_model), "parameters": count}
        print(size, choice.value, costs[size][choice.value], flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, costs)


def draw(costs: dict[str, Any], picture: Path) -> None:
    """Draws an arrow from each plain network to its polarized form."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
    titles = {"ms": "time of a training step (plain PaiNN, 64 channels: 1)", "parameters": "parameters"}
    marks = {"ms": [0.2, 0.5, 1, 2, 5, 10], "parameters": [20_000, 40_000, 80_000, 160_000]}
    units = {"ms": costs[UNIT]["plain"]["ms"], "parameters": 1}
    for panel, (key, title) in zip(panels, titles.items(), strict=True):
        for row in read_errors():
            at = [costs[row.size][choice.value][key] / units[key] for choice in CHOICES]
            errors = [row.plain, row.plain * row.ratio]
            panel.annotate(
                "",
                (at[1], errors[1]),
                (at[0], errors[0]),
                arrowprops={"arrowstyle": "-|>", "color": COLOURS[row.steps], "shrinkA": 3, "shrinkB": 0},
            )
            panel.plot(at[0], errors[0], "o", color=COLOURS[row.steps], markersize=5)
            panel.update_datalim([(at[1], errors[1])])
            here = row.name, row.steps
            offset = (7, -3) if here in RIGHT else (-5, -11) if here in BELOW else (-5, 5)
            side = "left" if here in RIGHT else "right"
            panel.annotate(SHOWN[row.name], (at[0], errors[0]), offset, textcoords="offset points", ha=side, fontsize=8)
        panel.set(xscale="log", yscale="log", xlabel=title)
        panel.margins(x=0.12, y=0.08)
        panel.set_xticks(marks[key], [f"{mark:,}" for mark in marks[key]])
        panel.grid(which="both", alpha=0.2)
    frames = {row.steps: row.frames for row in read_errors()}
    for steps, colour in COLOURS.items():
        label = f"plain, {frames[steps]} frames, {steps:,} steps; arrow: to riding"
        panels[1].plot([], [], "o", color=colour, label=label)
    panels[0].set_ylabel("force error, meV/Å")
    ticks = [8, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200]
    panels[0].set_yticks(ticks, [str(tick) for tick in ticks])
    for panel in panels:
        panel.minorticks_off()
    panels[1].legend(fontsize=8, loc="lower left")
    figure.suptitle("rMD17 ethanol, small networks (3 layers)", fontsize=10)
    figure.tight_layout()
    figure.savefig(picture, dpi=130)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["time", "draw"])
    parser.add_argument("costs", type=Path)
    parser.add_argument("picture", type=Path, nargs="?", default=Path("docs/pictures/front.png"))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.what == "time":
        measure(arguments.costs, arguments.rounds)
    else:
        draw(json.loads(arguments.costs.read_text(encoding="utf-8")), arguments.picture)


if __name__ == "__main__":
    main()
