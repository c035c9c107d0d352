r"""From a completion to its answer: where the reasoning ends, which words answer, and when two answers are equal.

```python
>>> from qwenlong_trl.rewards import extract_answer, normalize_answer
>>> extract_answer("<think>Oslo is its capital.</think>\nTherefore, the answer is **(Norway)**.")
'Norway'
>>> normalize_answer("The U.S.") == normalize_answer("us")
True
```

Completions are written by a policy that is rewarded for them, so they are hostile input: every step here takes time
linear in the length of the text.
"""

from __future__ import annotations

import re
import unicodedata


# A completion without any marker is accepted as an answer only up to this many characters, on one line.
BARE_ANSWER_LIMIT = 200

# How many layers of quotes and brackets are peeled off an answer; a bound keeps "((((...))))" linear.
_LAYERS = 8

_MARKER = re.compile(
    r"(?<![A-Za-z])the\s+(?:correct\s+|final\s+)?answer\s+is(?![A-Za-z])|答案(?:是|为|:)", re.IGNORECASE
)
_BOX_OR_BRACE = re.compile(r"(\\boxed\s*\{)|\\[{}]|\{|(\})")
_SPECIAL_TOKEN = re.compile(r"<\|[^<>|]{1,40}\|>")
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
# Where a fraction in one character stands next to a digit or to another one: 3½ is not 31/2.
_BESIDE_FRACTION = re.compile(r"(?<=[\d⁰¹²³⁴⁵⁶⁷⁸⁹¼-¾⅐-⅞↉])(?=[¼-¾⅐-⅟↉])|(?<=[¼-¾⅐-⅞↉])(?=\d)")
_UNIT_AFTER_BOX = re.compile(
    r"\s{0,4}\$?\s{0,4}(\\?%|percent\b|thousand\b|million\b|billion\b|trillion\b)", re.IGNORECASE
)

_LATEX_COMMAND = re.compile(r"\\(?:boxed|text(?:bf|it|rm)?|math(?:bf|it|rm)|operatorname|left|right)(?![A-Za-z])")
_LATEX_TIMES = re.compile(r"\\(?:times|cdot)(?![A-Za-z])")
_LATEX_DELIMITER = re.compile(r"\\[()\[\],;!]|[{}]")
_LATEX_ESCAPE = re.compile(r"\\([%$&#_])")

_OPENING = "\"'`“”‘’«»「」『』《》$:=、"
_CLOSING = "\"'`“”‘’«»「」『』《》$:.。,;、"
_BRACKETS = {"(": ")", "[": "]", "【": "】", "〔": "〕"}

# Han, kana, hangul: written without spaces, or with spaces that carry no meaning for an answer.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_CJK_SPACE = re.compile(f"(?<=[{_CJK}]) | (?=[{_CJK}])")
_ARTICLE = re.compile(r"\b(?:a|an|the) (?=\S)")
_THOUSANDS_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_DASHES = "-‐‑‒–—―−/"


def fold(text: str) -> str:
    """Unicode NFKC (full-width forms become ASCII), superscripts as `^2`, 3½ as `3 1⁄2`, the minus sign as `-`."""
    text = _BESIDE_FRACTION.sub(" ", text)
    text = _SUPERSCRIPTS.sub(lambda match: "^" + match.group(), text)
    return unicodedata.normalize("NFKC", text).replace("−", "-")


def text_after_reasoning(text: str, delimiter: str | None = "</think>", require_delimiter: bool = False) -> str | None:
    """The part of a completion that follows its reasoning, or `None` if the reasoning never ended.

    Args:
        text (`str`):
            The completion.
        delimiter (`str`, *optional*, defaults to `"</think>"`):
            What ends the reasoning; the text after its last occurrence is returned. `None` takes the whole completion.
        require_delimiter (`bool`, *optional*, defaults to `False`):
            Whether a completion without the delimiter has no answer. Set it for models whose chat template opens the
            reasoning in the prompt: a completion that was cut off is then indistinguishable from a bare answer.
    """
    if delimiter is None:
        return text
    _, found, tail = text.rpartition(delimiter)
    opening = delimiter.replace("</", "<", 1)
    if opening != delimiter and opening in tail:
        return None
    return tail if found or not require_delimiter else None


def extract_answer(text: str, delimiter: str | None = "</think>", require_delimiter: bool = False) -> str | None:
    r"""The final answer of a completion, or `None` if it gives none.

    The last of these decides: "the answer is" (also "the correct" or "the final", in any case; 答案是, 答案为),
    followed by the rest of its line; or `\boxed{...}`. A completion with neither is an answer as a whole if it is one
    line of at most 200 characters. Markdown, LaTeX, quotes, brackets around the answer and a final period are removed.
    The echo of the prompt, "(insert answer here)", is no answer.

    Args:
        text (`str`):
            The completion.
        delimiter (`str`, *optional*, defaults to `"</think>"`):
            What ends the reasoning, see [`text_after_reasoning`].
        require_delimiter (`bool`, *optional*, defaults to `False`):
            Whether a completion without the delimiter has no answer.
    """
    tail = text_after_reasoning(text, delimiter, require_delimiter)
    if tail is None:
        return None
    tail = _SPECIAL_TOKEN.sub("", fold(tail))
    answer = _marked_answer(tail)
    if answer is None:
        bare = tail.strip()
        if len(bare) > BARE_ANSWER_LIMIT or len(bare.splitlines()) != 1:
            return None
        answer = bare
    return _cleaned(answer)


def extract_gold(gold: str) -> str | None:
    """The answer of a gold string, which is bare ("Norway") or a sentence ("Therefore, the answer is Norway.")."""
    gold = _SPECIAL_TOKEN.sub("", fold(gold))
    answer = _marked_answer(gold)
    return _cleaned(_first_line(gold) if answer is None else answer)


def normalize_answer(text: str) -> str:
    """The form in which two answers are compared. Empty if the answer holds no letter and no digit.

    As in SQuAD: lower case, no punctuation, no English articles, single spaces. Different from SQuAD where it would
    call different answers equal: decimal points and minus signs of numbers stay ("3.5" is not "35", "-5" is not "5"),
    other punctuation between digits becomes a space ("2-1" is not "21"), a word's trailing `+` and `#` stay ("C++" is
    not "C"), and an article goes only before another word ("Vitamin A" is not "Vitamin"). Hyphens become spaces,
    thousands separators go. Full-width forms equal ASCII, and spaces beside Chinese, Japanese or Korean are dropped.
    """
    text = _THOUSANDS_COMMA.sub("", fold(text).casefold())
    text = "".join(character for character in text if unicodedata.category(character) != "Sc")
    kept: list[str] = []
    for i, character in enumerate(text):
        before = text[i - 1] if i else " "
        after = text[i + 1 : i + 3] + "  "
        digit_follows = after[0].isdigit() or (after[0] == "." and after[1].isdigit())
        if character.isalnum() or unicodedata.category(character)[0] == "M":
            kept.append(character)
        elif character == "." and after[0].isdigit() and not before.isalpha():
            kept.append(character)
        elif character in "-–" and digit_follows and not before.isalnum():
            kept.append("-")
        elif character in "+#" and (before.isalpha() or before in "+#") and kept and kept[-1] != " ":
            kept.append(character)
        elif character.isspace() or character in _DASHES or (before.isdigit() and after[0].isdigit()):
            kept.append(" ")
    squeezed = " ".join("".join(kept).split())
    return _CJK_SPACE.sub("", _ARTICLE.sub("", squeezed))


def _marked_answer(text: str) -> str | None:
    """The words after the last marker, or in the last box if that ends later; `None` without either."""
    marker_end = max((match.end() for match in _MARKER.finditer(text)), default=-1)
    box = _last_box(text)
    if box is not None and box[2] > marker_end:
        start, content_start, content_end = box
        content = text[max(content_start, marker_end) : content_end].strip()
        # The sign and the unit of a boxed number are often left outside: "-\boxed{3.2}", "\boxed{3.2} million".
        if re.match(r"[\d.$]", content) and text[max(0, start - 4) : start].rstrip(" $").endswith("-"):
            content = "-" + content
        unit = _UNIT_AFTER_BOX.match(text, content_end + 1)
        if unit and content[-1:].isdigit():
            content = f"{content} {unit.group(1)}"
        return _first_line(content)
    return None if marker_end < 0 else _first_line(text[marker_end:])


def _last_box(text: str) -> tuple[int, int, int] | None:
    r"""`(start, content_start, content_end)` of the `\boxed{...}` that closes last; an open one is ignored."""
    open_braces: list[tuple[int, int] | None] = []
    last = None
    for match in _BOX_OR_BRACE.finditer(text):
        if match.group(1):
            open_braces.append((match.start(), match.end()))
        elif match.group() == "{":
            open_braces.append(None)
        elif match.group(2) and open_braces:
            box = open_braces.pop()
            if box is not None:
                last = (*box, match.start())
    return last


def _first_line(text: str) -> str:
    lines = text.lstrip(" \t\r\n\v\f\u2028\u2029\x85\x1c\x1d\x1e:*").splitlines()
    return lines[0] if lines else ""


def _cleaned(answer: str) -> str | None:
    """The answer without Markdown, LaTeX, quotes and brackets; `None` if nothing or the prompt's own words remain."""
    answer = _without_emphasis(answer)
    answer = _LATEX_TIMES.sub("×", _LATEX_COMMAND.sub("", answer))
    answer = _LATEX_ESCAPE.sub(r"\1", _LATEX_DELIMITER.sub("", answer))
    for _ in range(_LAYERS):
        peeled = answer.strip().lstrip(_OPENING).rstrip(_CLOSING).strip()
        if peeled[:1] in _BRACKETS and _closes_at_end(peeled):
            peeled = peeled[1:-1]
        if peeled == answer:
            break
        answer = peeled
    return None if not answer or normalize_answer(answer[:40]) == "insert answer here" else answer


def _without_emphasis(text: str) -> str:
    """Removes runs of `*` unless they stand between two digits, where they multiply."""

    def keep_product(match: re.Match) -> str:
        between_digits = (
            text[match.start() - 1 : match.start()].isdigit() and text[match.end() : match.end() + 1].isdigit()
        )
        return match.group() if between_digits else ""

    return re.sub(r"\*+", keep_product, text)


def _closes_at_end(text: str) -> bool:
    opening, closing = text[0], _BRACKETS[text[0]]
    depth = 0
    for i, character in enumerate(text):
        depth += (character == opening) - (character == closing)
        if depth == 0:
            return i == len(text) - 1
    return False
