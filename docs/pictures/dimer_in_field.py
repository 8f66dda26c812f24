"""The picture of the water dimer in docs/fields.md:

python docs/pictures/dimer_in_field.py runs/dimer/model.safetensors fields.traj

Above, three frames of the trajectory of examples/fields.py, seen across the plane of field and first dipole, the field
upwards. An arrow goes from each nucleus along the induced part of its displacement: that in the field less that of the
same geometry without one, enlarged. Below, the angle between dipole and field and the distance of both oxygens.
"""

import argparse
from pathlib import Path

import ase
import numpy as np
from ase.io import iread
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from neural_polarization.checkpoints import load_model
from neural_polarization.interfaces.prediction import predict
from neural_polarization.models import Model
from neural_polarization.view.page import ball_radius, element_colour

HERE = Path(__file__).parent
STEP = 5.0
"""Time between frames of examples/fields.py, fs."""
LONGEST = 0.8
"""Length of the longest arrow, Angstrom."""
INK, MOVING, FIELD = "#5b636d", "#d81b74", "#2b6cb0"


def induced(model: Model, frames: list[ase.Atoms]) -> np.ndarray:
    """Displacements in the field of each frame less those without one, (frames, atoms, 3), Angstrom."""
    without = [ase.Atoms(frame.numbers, frame.positions) for frame in frames]
    pairs = zip(predict(model, frames), predict(model, without), strict=True)
    return np.array([inside.displacement - outside.displacement for inside, outside in pairs])


def draw_frame(axes: Axes, frame: ase.Atoms, arrows: np.ndarray, view: np.ndarray) -> None:
    """Balls, bonds and arrows, projected on the two rows of `view`."""
    places, arrows = (frame.positions - frame.positions.mean(axis=0)) @ view.T, arrows @ view.T
    for oxygen in (0, 3):
        for hydrogen in (oxygen + 1, oxygen + 2):
            axes.plot(*places[[oxygen, hydrogen]].T, color=INK, linewidth=2.0, zorder=1)
    for number, place in zip(frame.numbers, places, strict=True):
        axes.add_patch(Circle(place, ball_radius(int(number)), facecolor=element_colour(int(number)), edgecolor=INK))
    axes.quiver(*places.T, *arrows.T, angles="xy", scale_units="xy", scale=1.0, color=MOVING, width=0.012, zorder=3)
    axes.annotate("", (-2.6, 0.9), (-2.6, -0.9), arrowprops={"arrowstyle": "->", "color": FIELD, "linewidth": 2.0})
    axes.set(xlim=(-2.9, 2.9), ylim=(-2.2, 2.0), aspect="equal")
    axes.set_axis_off()


def draw_curve(axes: Axes, values: np.ndarray, label: str) -> None:
    """A quantity of all frames over time."""
    axes.plot(STEP * np.arange(len(values)), values, color=INK)
    axes.set(xlabel="time, fs", ylabel=label)


def main() -> None:
    """Draws the picture and prints the numbers of the page."""
    parser = argparse.ArgumentParser(description="The picture of the water dimer in docs/fields.md.")
    parser.add_argument("model", metavar="MODEL.safetensors")
    parser.add_argument("trajectory", metavar="FILE.traj")
    known = parser.parse_args()
    model = load_model(known.model)[0].double()
    frames = list(iread(known.trajectory))
    field, dipoles = frames[0].info["external_field"], np.array([frame.get_dipole_moment() for frame in frames])
    up = field / np.linalg.norm(field)
    lengths = np.linalg.norm(dipoles, axis=-1)
    angles = np.degrees(np.arccos(np.clip(dipoles @ up / lengths, -1.0, 1.0)))
    distances = np.array([frame.get_distance(0, 3) for frame in frames])
    energies = np.array([frame.get_total_energy() for frame in frames])
    closest = int(angles.argmin())
    shown = [0, closest // 2, closest]
    moved = induced(model, [frames[k] for k in shown])
    longest = float(np.linalg.norm(moved, axis=-1).max())
    factor = int(LONGEST / longest)
    view = np.array([dipoles[0] / lengths[0], up])
    figure = Figure(figsize=(8.0, 4.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplot_mosaic([[0, 0, 1, 1, 2, 2], [3, 3, 3, 4, 4, 4]], height_ratios=[1.6, 1.0])
    for place, (k, arrows) in enumerate(zip(shown, moved, strict=True)):
        draw_frame(axes[place], frames[k], factor * arrows, view)
        axes[place].set_title(f"{STEP * k:.0f} fs: dipole {angles[k]:.0f}° from the field", fontsize=9, color=INK)
    draw_curve(axes[3], angles, "dipole and field, degrees")
    draw_curve(axes[4], distances, "O-O, Å")
    figure.savefig(HERE / "dimer_in_field.png", facecolor="white")
    print(f"arrows {factor} times the induced displacements, {longest:.4f} Angstrom at most")
    print(
        f"angle {angles.min():.1f} degrees after {STEP * closest:.0f} fs; "
        f"dipole {lengths[0]:.4f}, then {lengths[closest]:.4f} e A"
    )
    print(f"O-O {distances[0]:.3f} at first, {distances.min():.3f} to {distances.max():.3f}")
    print(f"energy from {energies.min():.6f} to {energies.max():.6f} eV")


if __name__ == "__main__":
    main()
