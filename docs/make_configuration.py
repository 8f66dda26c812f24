"""Writes docs/configuration.md, the page of all settings, from the classes that hold them.

python docs/make_configuration.py
"""

from pathlib import Path

from neural_polarization.training.documentation import settings_page

PAGE = Path(__file__).with_name("configuration.md")

if __name__ == "__main__":
    PAGE.write_text(settings_page(), encoding="utf-8")
