"""`results/bench/README.md`: every machine's record as a table, with its cost curves."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from focalrepro.bench.measure import Spread
from focalrepro.files import write_atomic
from focalrepro.show.style import COLOURS, GREY, LINES, panels, styled

PAGE = Path(__file__).with_name("page.md.j2")


def number(value: float) -> str:
    """Three digits, thousands by commas."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def shown(s: Spread, unit: str) -> str:
    """A median with its least and greatest."""
    interval = f"{number(s['low'])}\u00a0…\u00a0{number(s['high'])}"  # which no line breaks
    return f"{number(s['median'])} {unit} ({interval if s['low'] < s['high'] else 'once'})"


def ratio(row: dict[str, Any]) -> str:
    """The ratio in bold; one that is extrapolated from a single measurement has two digits at most."""
    if row["extrapolated"]:
        return f"**about {float(format(row['ratio'], '.2g')):,.0f}** (extrapolated from one)"
    return f"**{row['ratio']:.1f}**"


def write_page(folder: Path) -> Path:
    """Writes the page from all records in a folder; returns its path."""
    records = {path: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    jinja = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    jinja.filters |= {"number": number, "spread": shown, "ratio": ratio}
    page, template = folder / "README.md", jinja.from_string(PAGE.read_text(encoding="utf-8"))
    write_atomic(page, template.render(records=records).strip() + "\n")
    return page


@styled
def cost_curves(curves: list[dict[str, Any]], machine: str) -> Figure:
    """Seconds against the work, a panel for each kind of work; a dotted line grows in proportion to it."""
    labels = list(dict.fromkeys(c["x_label"] for c in curves))
    settings = ({"xlabel": label, "ylabel": "seconds"} for label in labels)
    figure, row = panels(*settings, size=(3.1 * len(labels), 3.2))
    for axes, label in zip(row, labels, strict=True):
        mine = [c for c in curves if c["x_label"] == label]
        for curve, colour, line in zip(mine, COLOURS, LINES, strict=False):
            x, y = curve["x"], [s["median"] for s in curve["y"]]
            error = [[abs(s["median"] - s[end]) for s in curve["y"]] for end in ("low", "high")]
            style = {"color": colour, "linestyle": line, "marker": "o", "markersize": 4, "capsize": 3}
            axes.errorbar(x, y, yerr=error, label=f"{curve['what']}: slope {curve['exponent']:.2f}", **style)
            axes.plot(x, [y[-1] * at / x[-1] for at in x], ":", color=GREY, linewidth=1)
        axes.set(xscale="log", yscale="log")
        axes.minorticks_off()
        axes.set_xticks(x, [f"{at / 1000:.3g}k" if at >= 1000 else f"{at:g}" for at in x])
        axes.set_ylim(top=axes.get_ylim()[1] * 4)  # room for the legend
        axes.legend(loc="upper left", fontsize=8)
    figure.suptitle(f"{machine}; dotted: in proportion to the work", fontsize=11)
    return figure
