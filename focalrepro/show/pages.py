"""Pages from templates: texts are escaped for Markdown unless they are `Md` already."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from focalrepro.show.style import save_png
from focalrepro.show.tables import between, escape, signed

Figures = dict[str, Callable[[], Figure]]  # by the name of their file, not drawn yet

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
    finalize=escape,  # for Markdown, whose readers escape for HTML
)
TEMPLATES.globals |= {"between": between, "signed": signed}


def render(template: str, **values: Any) -> str:
    """The page that a template of show/templates gives; runs of blank lines become one, and it ends with a
    line's end. Errors: jinja2's UndefinedError for a value that is not given."""
    lines = TEMPLATES.get_template(template).render(values).splitlines()
    return re.sub("\n{3,}", "\n\n", "\n".join(map(str.rstrip, lines))).strip() + "\n"


def save(figures: Figures, folder: Path) -> None:
    """Draws figures and writes them as PNG."""
    for name, draw in figures.items():
        save_png(draw(), folder / f"{name}.png")
