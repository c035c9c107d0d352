"""The look of the Spaces: the colours of the reports, the system's fonts, light and dark; and how they start.

```python
>>> with gr.Blocks(title="Compress", analytics_enabled=False) as demo:
...     ...
>>> launch(demo)
```
"""

from __future__ import annotations

import functools
import html
import inspect
from collections.abc import Callable, Mapping

import gradio as gr

from .. import pages


COLOURS = pages.COLOURS | {"accent": ("#0067a3", "#5cb8f0"), "second": ("#b54700", "#f0a04b")}
QUEUE = 16  # requests that wait; the next one is told to come back


def theme() -> gr.themes.Base:
    """Nothing is loaded from elsewhere: the fonts are those of the reader's system."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.sky,
        neutral_hue=gr.themes.colors.slate,
        font=("system-ui", "sans-serif"),
        font_mono=("ui-monospace", "monospace"),
    ).set(
        button_primary_background_fill="#0067a3",
        button_primary_background_fill_hover="#00527f",
        button_primary_text_color="#ffffff",
        button_primary_background_fill_dark="#0067a3",
        button_primary_background_fill_hover_dark="#0078bd",
        block_label_text_color="#3d4651",
        block_label_text_color_dark="#c3cad2",
        block_info_text_color="#5a6370",
        block_info_text_color_dark="#a6aeb8",
    )


def css(colours: dict[str, tuple[str, str]] = COLOURS) -> str:
    """Rules for all Spaces; each colour is a variable, whose value follows the theme."""
    light, dark = (" ".join(f"--{name}: {pair[i]};" for name, pair in colours.items()) for i in (0, 1))
    return f":root {{ {light} }} .dark {{ {dark} }}" + _RULES


_RULES = """
.gradio-container { width: 100% !important; max-width: 1240px !important; margin: 0 auto !important; }
.gradio-container main { width: 100%; max-width: none !important; }
.html-container { padding: 4px 0 !important; }
input[role="combobox"] { padding-right: 30px !important; text-overflow: ellipsis; }
.prose h1 { font-size: 1.6rem; margin: 0 0 4px; }
.prose p { max-width: 80ch; }
.quiet { color: var(--muted); font-size: .9rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(104px, 1fr)); gap: 8px; margin: 0; }
.tiles div { border: 1px solid var(--line); border-radius: 6px; padding: 6px 12px; }
.tiles dt { color: var(--muted); font-size: .85rem; }
.tiles dd { margin: 0; font-size: 1.05rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; max-width: 100%; margin-top: 8px; }
.scroll table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.scroll th, .scroll td { padding: 6px 12px; text-align: left; vertical-align: top; }
.scroll th, .scroll td { border: 0 !important; border-bottom: 1px solid var(--line) !important; }
.scroll table, .scroll tr, .scroll thead { border: 0 !important; }
.scroll thead th { color: var(--muted); font-size: .85rem; }
.scroll td { overflow-wrap: anywhere; }
.num { text-align: right !important; white-space: nowrap; }
.num small { display: block; color: var(--muted); }
figure { margin: 12px 0 16px; overflow: hidden; }
.quiet { overflow-wrap: anywhere; }
figure svg { display: block; width: 100%; height: auto; }
figure text { font-family: system-ui, sans-serif !important; }
figcaption { color: var(--muted); font-size: .9rem; max-width: 76ch; }
.narrow { display: none; }
:focus-visible { outline: 2px solid var(--accent) !important; outline-offset: 2px; }
@media (max-width: 640px) {
  .wide { display: none; }
  .narrow { display: block; }
  .scroll th, .scroll td { padding: 6px 4px; font-size: .85rem; }
  .scroll thead .num { white-space: normal; }
}
"""


def quiet(text: str) -> str:
    """A line that says what is going on, which screen readers read out."""
    return f'<p class="quiet" role="status">{html.escape(text)}</p>'


def tiles(figures: Mapping[str, str]) -> str:
    """Names and figures side by side; both are escaped."""
    escaped = ((html.escape(name), html.escape(value)) for name, value in figures.items())
    boxes = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in escaped)
    return f'<dl class="tiles">{boxes}</dl>'


def told(work: Callable) -> Callable:
    """
    A handler whose `ValueError` and `OSError` reach the person in front of the page as a message that stays until it
    is closed; other errors are defects and stay in the log. The message is text: names in it may be a stranger's.
    """

    def message(error: Exception) -> gr.Error:
        return gr.Error(html.escape(str(error)), duration=None, title="That did not work", print_exception=False)

    if inspect.isgeneratorfunction(work):

        @functools.wraps(work)
        def steps(*args):
            try:
                yield from work(*args)
            except (ValueError, OSError) as error:
                raise message(error) from error

        return steps

    @functools.wraps(work)
    def once(*args):
        try:
            return work(*args)
        except (ValueError, OSError) as error:
            raise message(error) from error

    return once


def launch(
    demo: gr.Blocks, rules: str = "", colours: dict[str, tuple[str, str]] = COLOURS, most_upload: str = "2mb"
) -> None:
    """Starts a Space: one request at a time, a short queue, small uploads, and nothing is sent elsewhere."""
    demo.queue(max_size=QUEUE, default_concurrency_limit=1)
    demo.launch(
        theme=theme(),
        css=css(colours) + rules,
        ssr_mode=False,
        max_file_size=most_upload,
        footer_links=[],
    )
