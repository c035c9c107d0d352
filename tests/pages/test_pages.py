"""The page that all reports share: what a model wrote is never markup, and figures follow the page's colours."""

import re

import jinja2
import matplotlib
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenlong_trl.pages import COLOURS, LIGHT, STYLE, WIDTHS, draw, figure_in_px, inline_svg, render


TEMPLATE = """{% extends "base.html.jinja" %}
{% from "macros.html.jinja" import figure, pairs with context %}
{% block title %}{{ text }}{% endblock %}
{% block style %}.mine { color: red; }{% endblock %}
{% block main %}
<p id="text">{{ text | twice }}</p>{{ figure("one", text, text) }}{{ pairs({text: text}) }}
{% endblock %}
"""
MINE = COLOURS | {"mine": ("#0067a3", "#5cb8f0")}
HOSTILE = "</title></style></p><script>alert(1)</script><img src=x onerror='y'>\"&amp;{{ 7 * 7 }}"


def page(folder, text: str, values: dict | None = None) -> str:
    (folder / "page.html.jinja").write_text(TEMPLATE, encoding="utf-8")
    with matplotlib.rc_context(STYLE):
        figures = draw({"one": lambda width: plot(width, text), "none": lambda width: None}, MINE)
    values = {"text": text, "figures": figures} if values is None else values
    return render(folder / "page.html.jinja", values, MINE, "mine", "mine", {"twice": lambda text: text + text})


def plot(width: int, title: str = "title"):
    figure, (axes,) = figure_in_px(width, 200)
    axes.plot([0, 1], [0, 1], color=MINE["mine"][0])
    axes.set_title(title)
    return figure


def test_text_of_models_is_escaped_everywhere(tmp_path):
    source = page(tmp_path, HOSTILE)
    assert "<script" not in source and "<img" not in source and "{{ 7 * 7 }}" in source and "49" not in source[:200]
    assert source.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6
    assert source.count("</title>") == source.count("</style>") - 2 == 1  # and a style in each of the two figures


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("<>&\"'{}%#abc/=$"), min_size=1))
def test_any_text_is_shown_as_it_is(text, tmp_path):
    source = page(tmp_path, text)
    escaped = re.search(r'<p id="text">(.*?)</p>', source)[1]
    unescaped = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&#34;", '"').replace("&#39;", "'")
    assert unescaped.replace("&amp;", "&") == text + text
    assert not set("<>\"'") & set(escaped)


def test_a_figure_has_its_colours_and_ids_from_the_page():
    with matplotlib.rc_context(STYLE):
        one, other = (inline_svg(plot(350), prefix, MINE) for prefix in ("a-", "b-"))
    assert one.startswith("<svg") and not re.search("#[0-9a-f]{6}", one.split("</style>")[1])
    assert {"mine", "line", "ink", "muted"} <= set(re.findall(r"var\(--(\w+)\)", one))
    ids, others = (set(re.findall(r' id="([^"]+)"', svg)) for svg in (one, other))
    assert ids and not ids & others
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', one)) <= {(x, y) for x in ids | {""} for y in ids | {""}}
    assert one.replace("a-", "b-") == other  # equal figures, equal files


def test_a_figure_is_drawn_in_every_width_and_one_without_content_in_none(tmp_path):
    with matplotlib.rc_context(STYLE):
        figures = draw({"one": plot, "none": lambda width: None}, MINE)
    assert list(figures) == [("one", size) for size in WIDTHS]
    source = page(tmp_path, "x")
    for name, colours in MINE.items():
        assert re.findall(rf"--{name}: (#\w+);", source) == [*colours]
    assert ".mine { color: red; }" in source and "a { color: var(--mine); }" in source


def test_a_value_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(jinja2.UndefinedError, match="text"):
        page(tmp_path, "x", values={})


def test_light_colours_are_those_of_the_style():
    assert {name: light for name, (light, _) in COLOURS.items()} == LIGHT
    assert len(set(LIGHT.values())) == len(LIGHT)
