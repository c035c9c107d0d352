"""The Compress Space: its documents and highlighting without a browser; its main path and failures in one."""

import html
import re

import pytest
from browsing import WIDTHS, check_layout, close_message, keep_picture, message, page_of, running
from cached_models import make_cache
from hypothesis import given
from hypothesis import strategies as st

from qwenlong_trl.data import Document


pytest.importorskip("gradio", reason="the Spaces need gradio")
HOSTILE = '<script>alert(1)</script> & "it" isn\'t <b>bold</b>.'


@pytest.fixture(scope="module")
def space(tmp_path_factory, chromium):
    with running("compress", **make_cache(tmp_path_factory.mktemp("cache"))) as address:
        yield address


TITLES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), max_size=20).map(str.strip)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r-#"), min_size=1).map(str.strip).filter(bool)


@given(st.lists(st.builds(Document, TITLES, TEXTS), min_size=1, max_size=5))
def test_documents_come_back_from_the_text_box(documents):
    from documents import as_text, read_documents

    assert read_documents(as_text(documents)) == documents


def test_uploads_are_documents_with_their_names(tmp_path):
    from documents import read_documents

    (tmp_path / "a.MD").write_text("one", encoding="utf-8-sig")
    (tmp_path / "b.txt").write_text(" two\n---\nthree ")
    read = read_documents("zero", [str(tmp_path / "a.MD"), str(tmp_path / "b.txt")])
    assert read == [Document("", "zero"), Document("a.MD", "one"), Document("b.txt", "two\n---\nthree")]


def test_what_is_refused(tmp_path):
    from documents import MOST_BYTES, MOST_CHARACTERS, MOST_DOCUMENTS, read_documents

    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "c.txt").write_bytes(b"x" * (MOST_BYTES + 1))
    for text, files, said in (
        (" \n---\n", [], "no text yet"),
        ("x" * (MOST_CHARACTERS + 1), [], "takes up to 200,000"),
        ("\n---\n".join("x" * (MOST_DOCUMENTS + 1)), [], f"up to {MOST_DOCUMENTS}"),
        ("", ["a.pdf"], "is no .txt or .md file"),
        ("", ["b.txt"], "is not UTF-8"),
        ("", ["c.txt"], "takes files of up to"),
    ):
        with pytest.raises(ValueError, match=said):
            read_documents(text, [str(tmp_path / name) for name in files])


@given(st.text(max_size=60), st.lists(st.integers(0, 60), max_size=6), st.floats(allow_nan=False))
def test_marks_hold_the_kept_text_and_nothing_is_markup(text, cuts, score):
    from documents import highlighted

    places = sorted({min(cut, len(text)) for cut in cuts})
    spans = [{"start": a, "end": b, "score": score} for a, b in zip(places[::2], places[1::2], strict=False)]
    page = highlighted([Document(HOSTILE, text)], spans)
    assert "<script" not in page and "<b>" not in page
    body = re.search(r'<p class="text">(.*)</p>', page, re.DOTALL)[1]
    marks = re.findall(r"<mark[^>]*>(.*?)<sup[^>]*>.*?</sup></mark>", body, re.DOTALL)
    assert [*map(html.unescape, marks)] == [html.unescape(html.escape(text[s["start"] : s["end"]])) for s in spans]
    assert html.unescape(re.sub(r"<sup.*?</sup>|</?mark[^>]*>", "", body)) == html.unescape(html.escape(text))


def test_of_a_long_context_documents_without_a_span_are_counted():
    from documents import highlighted

    documents = [Document("", "x" * 40_000) for _ in range(3)]
    page = highlighted(documents, [{"document": 2, "start": 0, "end": 5, "score": 0.5}])
    assert "1 more documents" in page and page.count("<section") == 2


def test_the_small_models_find_most_cards_and_the_reader_needs_them():
    """What the page says about them; and on its examples, which were not chosen by what comes out."""
    from documents import read_documents
    from engines import compress, examples, measured, prompt_of, small_critic, small_reader

    for row in measured()["lengths"][1:]:
        assert row["compressed"] > row["full"] + 0.1 and row["compressed"] > row["random"] + 0.1
    kept = 0
    for record in examples():
        documents = read_documents(record.documents[0].text)
        result, _ = compress(small_critic(), small_reader(), documents, record.question, "", 10, "sentence")
        assert result["compressed_tokens"] <= 10
        kept += f"{record.question} {record.answers[0]}" in result["compressed"]
        answer = small_reader().answer(prompt_of(result["compressed"], record.question))
        assert answer.text and answer.tokens <= 11
    assert kept >= 4


@pytest.mark.browser
def test_an_example_is_compressed_and_answered(space, chromium):
    with page_of(chromium, space) as page:
        page.locator("#examples").get_by_role("button").nth(1).click()
        page.wait_for_function("document.querySelector('#text textarea').value.length > 100")
        question = page.locator("#question textarea").input_value()
        page.get_by_role("button", name="Compress and answer").click()
        page.locator(".answers td strong").nth(1).wait_for()
        assert page.locator("#marked mark").count() >= 1
        kept = [re.sub(r"\d\.\d\d$", "", one).strip() for one in page.locator("#marked mark").all_inner_texts()]
        assert "Tokens before" in page.locator("#figures").inner_text()
        check_layout(page)
        page.get_by_role("tab", name="Prompt to copy").click()
        prompt = page.locator("#prompt textarea").input_value()
        assert prompt.endswith(f"\n\n{question}\n") and all(one in prompt for one in kept)


@pytest.mark.browser
def test_models_of_the_hub_on_a_hostile_text_by_keyboard(space, chromium):
    with page_of(chromium, space) as page:
        page.get_by_text("Instruction and models").click()
        page.get_by_label("Critic on the Hub").fill("tiny/critic")
        page.get_by_label("Reader on the Hub").fill("tiny/reader")
        page.locator("#text textarea").fill(f"# <i>Title</i>\n{HOSTILE}\n---\nAnother one.")
        page.locator("#question textarea").fill("Who built it?")
        page.locator("#question textarea").press("Shift+Enter")
        page.locator(".answers tbody tr").nth(2).wait_for()
        page.locator(".answers td").nth(5).get_by_text(" s").wait_for()
        assert HOSTILE in re.sub(r"\d\.\d\d", "", page.locator("#marked").inner_text()) or page.locator("mark").count()
        assert page.locator("#marked b, #marked i, #marked script").count() == 0


@pytest.mark.browser
def test_failures_are_messages(space, chromium, tmp_path):
    (tmp_path / "long.txt").write_text("word " * 60_000)
    with page_of(chromium, space) as page:
        button = page.get_by_role("button", name="Compress and answer")
        button.click()
        assert "There is no text yet" in message(page)
        close_message(page)
        page.locator("#text textarea").fill("A text.")
        page.locator("#question textarea").fill("Who?")
        page.get_by_text("Instruction and models").click()
        for name, said in (
            ("../../etc", "is no name of a model"),
            ("no/such-critic", "no/such-critic is not on this machine"),
            ("tiny/reader", "could not be loaded as a critic"),
        ):
            page.get_by_label("Critic on the Hub").fill(name)
            button.click()
            assert said in message(page)
            close_message(page)
        page.locator("#files input[type=file]").set_input_files(tmp_path / "long.txt")
        page.locator("#files").get_by_text("long").first.wait_for()
        button.click()
        assert "takes up to 200,000" in message(page)


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_layout(space, chromium, width, theme):
    with page_of(chromium, space, width, theme) as page:
        page.locator("#examples").get_by_role("button").nth(2).click()
        page.wait_for_function("document.querySelector('#text textarea').value.length > 100")
        page.get_by_role("button", name="Compress and answer").click()
        page.locator(".answers td strong").nth(1).wait_for()
        check_layout(page)
        keep_picture(page, f"compress-{width}-{theme}")
