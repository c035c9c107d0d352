"""The look of every report: one HTML page that loads nothing and needs no scripts, light or dark, narrow or wide.

A report draws its figures in the light colours and renders a template that extends `base.html.jinja`:

```python
>>> colours = COLOURS | {"judge": ("#0067a3", "#5cb8f0"), "structured": ("#b54700", "#f0a04b")}
>>> with matplotlib.rc_context(STYLE):
...     figures = draw({"by-set": plot_by_set}, colours)
>>> page = render(Path("report.html.jinja"), {"figures": figures, ...}, colours, accent="judge", warning="structured")
```

Values are escaped: text that a model wrote is shown as it is and is never markup.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure


WIDTHS = {"wide": 900, "narrow": 350}  # px; a phone gets figures of its own, not shrunken ones
# Name: (on a light page, on a dark page). A report adds those of its series; no two may be equal on a light page, as
# figures are drawn in the light colours, each of which becomes a CSS variable in the page.
COLOURS = {
    **{"page": ("#ffffff", "#15181c"), "ink": ("#1b1f24", "#e8eaed"), "muted": ("#5a6370", "#a6aeb8")},
    "line": ("#d9dde3", "#363c44"),
    "band": ("#eef2f7", "#20252c"),
}
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
STYLE = {
    # Text stays text, which the page shows in its own font, no wider than DejaVu Sans; equal results, equal files.
    **{"svg.fonttype": "none", "svg.hashsalt": "report"},
    "text.parse_math": False,  # a name may hold a dollar sign
    **{"font.family": "DejaVu Sans", "font.size": 12},
    **{"axes.titlesize": 13, "axes.titleweight": "bold", "axes.titlelocation": "left"},
    **{"axes.spines.top": False, "axes.spines.right": False, "xtick.major.size": 3, "ytick.major.size": 0},
    **{"axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True},
    **dict.fromkeys(("axes.facecolor", "figure.facecolor"), "none"),
    **dict.fromkeys(("grid.color", "axes.edgecolor", "xtick.color"), LIGHT["line"]),
    "text.color": LIGHT["ink"],
    **dict.fromkeys(("axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), LIGHT["muted"]),
}


def figure_in_px(width: int, height: int, rows: int = 1, **kwargs) -> tuple[Figure, list[Axes]]:
    """A figure in px, with its panels below each other: at 72 dpi, a point of matplotlib is a px of the page."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
    figure.get_layout_engine().set(w_pad=2 / 72, h_pad=4 / 72, hspace=0.06)
    return figure, [*figure.subplots(rows, 1, squeeze=False, **kwargs)[:, 0]]


def inline_svg(figure: Figure, prefix: str, colours: Mapping[str, tuple[str, str]]) -> Markup:
    """A figure as an inline SVG: ids with a prefix, so that figures do not meet; colours as variables of the page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()[buffer.getvalue().index("<svg") :]
    text = re.sub(r'(?<= id=")|(?<=href="#)|(?<=url\(#)', prefix, text)
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
    for name, (light, _) in colours.items():
        text = text.replace(light, f"var(--{name})")
    return Markup(text)


def draw(
    plots: Mapping[str, Callable[[int], Figure | None]], colours: Mapping[str, tuple[str, str]]
) -> dict[tuple[str, str], Markup]:
    """
    The figures of a page by name and size, from functions that draw one for a width in px; without those that are
    `None`, having nothing to show. Call it under `matplotlib.rc_context(STYLE)`.
    """
    drawn = {(name, size): plot(px) for name, plot in plots.items() for size, px in WIDTHS.items()}
    return {key: inline_svg(figure, "-".join(key) + "-", colours) for key, figure in drawn.items() if figure}


def render(
    template: Path,
    values: Mapping[str, Any],
    colours: Mapping[str, tuple[str, str]],
    accent: str,
    warning: str,
    filters: Mapping[str, Callable] | None = None,
) -> str:
    """
    A page from a template that extends `base.html.jinja`; a value that the template names and that is not there is an
    error.

    Args:
        template (`Path`):
            Beside it lies what else it includes.
        values (`Mapping[str, Any]`):
            What the template shows. Text is escaped, whoever wrote it.
        colours (`Mapping[str, tuple[str, str]]`):
            `COLOURS` and those of the report.
        accent, warning (`str`):
            Names of the colours of links and of what needs attention.
        filters (`Mapping[str, Callable]`, *optional*):
            Further filters by name.
    """
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]), **options
    )
    environment.filters |= filters or {}
    page = environment.get_template(template.name)
    return page.render(**values, colours=colours, accent=accent, warning=warning)
