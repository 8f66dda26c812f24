"""The gallery of electron clouds: `python docs/pictures/gallery.py`.

Twelve kinds of molecules as the model of the package predicts them: the surface of 0.002 e/bohr^3 in the colours of the
electrostatic potential, and inside it the moving points as arrows, longer than they are by the factor that is named.
The model has learned from neutral molecules without unpaired electrons; two ions and a radical are drawn as they are
computed, without moving points (B3LYP/6-31G(2df,p), a minute).
"""

import tempfile
from pathlib import Path

import ase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neural_polarization.data.densities import Densities
from neural_polarization.data.packed import read_packed
from neural_polarization.interfaces.prediction import from_smiles
from neural_polarization.labelling.calculation import Request
from neural_polarization.labelling.jobs import run, serial
from neural_polarization.labelling.level import Level
from neural_polarization.labelling.mean_field import FAST
from neural_polarization.labelling.packing import pack
from neural_polarization.pretrained import load_pretrained
from neural_polarization.view import Scene
from neural_polarization.view.figures import arrow_factor, draw_density
from neural_polarization.view.prediction import scene_of_density, scenes_of

MOLECULES = {
    "alkane: propane": "CCC",
    "alkene: propene": "CC=C",
    "alkyne: propyne": "CC#C",
    "alcohol: ethanol": "CCO",
    "ether: dimethyl ether": "COC",
    "amine: methylamine": "CN",
    "carbonyl: acetaldehyde": "CC=O",
    "nitrile: acetonitrile": "CC#N",
    "acid: formic acid": "OC=O",
    "amide: formamide": "NC=O",
    "fluoride: fluoromethane": "CF",
    "aromatic: furan": "c1ccoc1",
}
COMPUTED = {
    "cation: ammonium": "[NH4+]",
    "anion: formate": "[O-]C=O",
    "radical: methyl": "[CH3]",
}
INK = "#7d858f"  # grey that is read on white and on black paper
SPACING = 0.2  # Angstrom


def main() -> None:
    """Draws all molecules into gallery.png beside this file."""
    model, stored = load_pretrained("small")
    predicted = scenes_of(model, [from_smiles(smiles) for smiles in MOLECULES.values()], stored.units, SPACING)
    figure = Figure(figsize=(15.0, 9.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    scenes = [*predicted, *computed([from_smiles(smiles) for smiles in COMPUTED.values()])]
    for axes, scene, name in zip(figure.subplots(3, 5).ravel(), scenes, [*MOLECULES, *COMPUTED], strict=True):
        draw_density(axes, scene, opacity=0.45)
        below = "computed" if scene.moving_points is None else f"arrows {arrow_factor(scene)} times as long"
        axes.set_title(f"{name}\n{below}", color=INK, fontsize=9)
        for bar in (other for other in figure.axes if other.get_label() == "<colorbar>"):
            bar.tick_params(labelsize=6, colors=INK)
            bar.yaxis.label.set(fontsize=6, color=INK)
    figure.savefig(Path(__file__).parent / "gallery.png", transparent=True)


def computed(structures: list[ase.Atoms]) -> list[Scene]:
    """Scenes of densities that are labelled here."""
    request = Request(Level.parse("B3LYP/6-31G(2df,p)"), FAST, ("density",))
    with tempfile.TemporaryDirectory() as directory:
        labels, packed, fitted = (Path(directory) / name for name in ("labels.h5", "set.npz", "densities.npz"))
        run(structures, request, labels, serial)
        pack([labels], packed, fitted)
        densities = Densities(fitted, read_packed(packed).molecules)
        return [scene_of_density(atoms, densities[n], SPACING) for n, atoms in enumerate(structures)]


if __name__ == "__main__":
    main()
