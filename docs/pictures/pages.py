"""Pages of five molecules side by side, in headless Chromium: `python docs/pictures/pages.py`.

Water, formaldehyde, benzene, formamide and the ammonium ion as `npol view --pretrained small` shows them. Needs RDKit
and Chromium; half a minute.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.image
import numpy as np

from neural_polarization.interfaces.prediction import from_smiles
from neural_polarization.pretrained import load_pretrained
from neural_polarization.view import write_page
from neural_polarization.view.prediction import scenes_of

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "view"))
from chromium import Chromium  # noqa: E402

MOLECULES = {"water": "O", "formaldehyde": "C=O", "benzene": "c1ccccc1", "formamide": "NC=O", "ammonium": "[NH4+]"}


def main() -> None:
    """Writes pages.png: the pictures of each page in a row."""
    model, stored = load_pretrained("small")
    rows: list[np.ndarray] = []
    with tempfile.TemporaryDirectory() as folder, Chromium(width=1000, height=560) as browser:
        for title, smiles in MOLECULES.items():
            page = Path(folder) / f"{title}.html"
            write_page(scenes_of(model, [from_smiles(smiles)], stored.units), page, title)
            browser.open(page)
            rows.append(browser.screenshot(element="pictures"))
        assert not browser.problems, browser.problems
    width = min(row.shape[1] for row in rows)
    whole = np.concatenate([row[:, :width] for row in rows])
    matplotlib.image.imsave(HERE / "pages.png", whole.astype(np.uint8))


if __name__ == "__main__":
    main()
