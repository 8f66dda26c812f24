"""The gallery of electron clouds: `python docs/pictures/gallery.py`.

Twelve kinds of molecules as the model of the package predicts them: the surface of 0.002 e/bohr^3 in the colours of the
electrostatic potential, and inside it the moving points as arrows, longer than they are by the factor that is named.
"""

from pathlib import Path

import ase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neural_polarization.pretrained import load_pretrained
from neural_polarization.structures import embedded_molecule
from neural_polarization.view.figures import arrow_factor, draw_density
from neural_polarization.view.prediction import scenes_of

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
INK = "#7d858f"  # grey that is read on white and on black paper
SPACING = 0.2  # Angstrom


def main() -> None:
    """Draws all molecules into gallery.png beside this file."""
    model, stored = load_pretrained("small")
    scenes = scenes_of(model, [structure(smiles) for smiles in MOLECULES.values()], stored.units, SPACING)
    figure = Figure(figsize=(12.0, 9.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, scene, name in zip(figure.subplots(3, 4).ravel(), scenes, MOLECULES, strict=True):
        draw_density(axes, scene, opacity=0.45)
        drawn = arrow_factor(scene) if scene.moving_points is not None else 1
        axes.set_title(f"{name}\narrows {drawn} times as long", color=INK, fontsize=9)
        for bar in (other for other in figure.axes if other.get_label() == "<colorbar>"):
            bar.tick_params(labelsize=6, colors=INK)
            bar.yaxis.label.set(fontsize=6, color=INK)
    figure.savefig(Path(__file__).parent / "gallery.png", transparent=True)


def structure(smiles: str) -> ase.Atoms:
    """A molecule in the geometry of its force field."""
    molecule = embedded_molecule(smiles, smiles)
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    return ase.Atoms(numbers, molecule.GetConformer().GetPositions(), info={"smiles": smiles})


if __name__ == "__main__":
    main()
