"""Molecules with their moving points and their electrons: pages for the browser, figures for papers.

Both take a `Scene`, which holds plain arrays: nothing here knows of models or of calculations.
"""

from .figures import write_figure
from .page import write_page
from .scene import Grid, Scene

__all__ = ["Grid", "Scene", "write_figure", "write_page"]
