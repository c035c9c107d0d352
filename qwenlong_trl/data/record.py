"""The one record that every part of the package reads: a question, answers, documents, and where the evidence stands.

```python
>>> from qwenlong_trl.data import Document, Evidence, LongContextExample
>>> LongContextExample(
...     id="1", question="Who discovered radium?", answers=("Marie Curie", "Curie"),
...     documents=(Document("Radium", "Radium was discovered by Marie Curie."),),
...     evidence=(Evidence(document=0, start=25, end=36),),
... ).validate()
```
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from datasets import Dataset, Features


class InvalidRecordError(ValueError):
    """A row that cannot become a record. The message says where it stands, what it holds and what was expected.

    Args:
        field (`str`):
            Dotted path of the field, for example `documents[3].text`.
        value (`Any`):
            The offending value; shown shortened.
        reason (`str`):
            What was expected.
        file (`str`, *optional*):
            File that holds the row.
        row (`int`, *optional*):
            One-based row of the file (line of a JSON Lines file, position in a list otherwise).
    """

    def __init__(self, field: str, value: Any, reason: str, file: str | None = None, row: int | None = None):
        self.field, self.value, self.reason, self.file, self.row = field, value, reason, file, row
        shown = repr(value)
        shown = shown if len(shown) <= 120 else shown[:117] + "..."
        where = f"{file or '<record>'}, row {row if row is not None else '?'}"
        super().__init__(f"{where}: field `{field}` is {shown}: {reason}")

    def at(self, file: str, row: int) -> InvalidRecordError:
        """The same error with its place in a file."""
        return InvalidRecordError(self.field, self.value, self.reason, file=file, row=row)

    def __reduce__(self):
        # Exceptions rebuild from `args`, which holds only the message; worker processes must be able to hand this one
        # on.
        return type(self), (self.field, self.value, self.reason, self.file, self.row)


@dataclass(frozen=True)
class Document:
    """One document of a context: a `title` (may be empty) and its `text`."""

    title: str
    text: str


@dataclass(frozen=True)
class Evidence:
    """Characters `start` (inclusive) to `end` (exclusive) of `documents[document].text`."""

    document: int
    start: int
    end: int


@dataclass(frozen=True)
class LongContextExample:
    """A question over several documents, with its answers and its evidence.

    Args:
        id (`str`):
            Unique within a set.
        question (`str`):
            The question alone, without instructions on how to answer.
        answers (`tuple[str, ...]`):
            Accepted answers, the preferred one first, aliases after it. Never empty.
        documents (`tuple[Document, ...]`):
            The context, in the order in which it is shown.
        evidence (`tuple[Evidence, ...]`, *optional*, defaults to `()`):
            Where the documents support the answer. Empty where the source does not say.
        task (`str`, *optional*, defaults to `"docqa"`):
            How an answer is scored: `"docqa"`, `"docmath"` or `"multiple_choice"`.
        source (`str`, *optional*, defaults to `""`):
            Where the record comes from, for example `"musique"` or `"synthetic/comparison"`.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    documents: tuple[Document, ...]
    evidence: tuple[Evidence, ...] = ()
    task: str = "docqa"
    source: str = ""

    def validate(self) -> LongContextExample:
        """Returns the record itself; raises [`InvalidRecordError`] that names the first field that is wrong."""
        for field in ("id", "question", "task", "source"):
            _expect_text(getattr(self, field), field)
        for field in ("id", "question", "task"):
            _expect(getattr(self, field).strip() != "", field, getattr(self, field), "must not be empty")
        _expect(isinstance(self.answers, list | tuple), "answers", self.answers, "expected a list of strings")
        _expect(len(self.answers) > 0, "answers", self.answers, "needs at least one answer")
        for i, answer in enumerate(self.answers):
            _expect_text(answer, f"answers[{i}]")
            _expect(answer.strip() != "", f"answers[{i}]", answer, "must not be empty")
        for i, document in enumerate(self.documents):
            _expect_text(document.title, f"documents[{i}].title")
            _expect_text(document.text, f"documents[{i}].text")
        for i, span in enumerate(self.evidence):
            for name in ("document", "start", "end"):
                value = getattr(span, name)
                whole = isinstance(value, int) and not isinstance(value, bool)
                _expect(whole, f"evidence[{i}].{name}", value, "expected an integer")
            _expect(
                0 <= span.document < len(self.documents),
                f"evidence[{i}].document",
                span.document,
                f"expected the index of one of {len(self.documents)} documents",
            )
            length = len(self.documents[span.document].text)
            _expect(
                0 <= span.start < span.end <= length,
                f"evidence[{i}]",
                (span.start, span.end),
                f"expected 0 <= start < end <= {length}, the length of documents[{span.document}].text",
            )
        return self

    @property
    def evidence_documents(self) -> tuple[int, ...]:
        """Indices of the documents that hold evidence, ascending, each once."""
        return tuple(sorted({span.document for span in self.evidence}))

    def evidence_text(self, span: Evidence) -> str:
        """The characters that `span` points at."""
        return self.documents[span.document].text[span.start : span.end]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dictionaries, as stored in JSON, Parquet and `datasets`."""
        plain = asdict(self)
        return plain | {name: list(plain[name]) for name in ("answers", "documents", "evidence")}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> LongContextExample:
        """The inverse of [`~LongContextExample.to_dict`]; raises [`InvalidRecordError`] for a row of another shape."""
        _expect(isinstance(row, Mapping), "<row>", row, "expected an object")
        names = ("id", "question", "answers", "documents", "evidence", "task", "source")
        for name in names[:4]:
            _expect(name in row, name, None, "is missing")
        for name in row:
            _expect(name in names, str(name), row[name], f"unknown field; expected some of {', '.join(names)}")
        answers, documents = row["answers"], row["documents"]
        evidence = [] if row.get("evidence") is None else row["evidence"]
        _expect(isinstance(answers, list | tuple), "answers", answers, "expected a list of strings")
        _expect(isinstance(documents, list | tuple), "documents", documents, "expected a list of {title, text}")
        _expect(isinstance(evidence, list | tuple), "evidence", evidence, "expected a list of {document, start, end}")
        for i, document in enumerate(documents):
            _expect_keys(document, ("title", "text"), f"documents[{i}]")
        for i, span in enumerate(evidence):
            _expect_keys(span, ("document", "start", "end"), f"evidence[{i}]")
        return cls(
            id=row["id"],
            question=row["question"],
            answers=tuple(answers),
            documents=tuple(Document(title=d["title"], text=d["text"]) for d in documents),
            evidence=tuple(Evidence(document=e["document"], start=e["start"], end=e["end"]) for e in evidence),
            task=row.get("task", "docqa"),
            source=row.get("source", ""),
        ).validate()


def record_features() -> Features:
    """The `datasets.Features` of a set of records; document text is `large_string`, a set of texts can pass 2 GB."""
    from datasets import Features, Value

    return Features(
        {
            "id": Value("string"),
            "question": Value("string"),
            "answers": [Value("string")],
            "documents": [{"title": Value("string"), "text": Value("large_string")}],
            "evidence": [{"document": Value("int32"), "start": Value("int64"), "end": Value("int64")}],
            "task": Value("string"),
            "source": Value("string"),
        }
    )


def to_dataset(examples: Iterable[LongContextExample]) -> Dataset:
    """An ordinary `datasets.Dataset` with the features of [`record_features`]."""
    from datasets import Dataset

    features = record_features()
    rows = [example.to_dict() for example in examples]
    # By column: `Dataset.from_list` refuses an empty list.
    return Dataset.from_dict({name: [row[name] for row in rows] for name in features}, features=features)


def from_dataset(dataset: Dataset) -> Iterator[LongContextExample]:
    """The records of a dataset made by [`to_dataset`] or loaded from Parquet or the Hub."""
    for row, values in enumerate(dataset.with_format(None), start=1):  # plain Python values, whatever format was set
        try:
            yield LongContextExample.from_dict(values)
        except InvalidRecordError as error:
            raise error.at("<dataset>", row) from None


def _expect(condition: bool, field: str, value: Any, reason: str) -> None:
    if not condition:
        raise InvalidRecordError(field, value, reason)


def _expect_text(value: Any, field: str) -> None:
    _expect(isinstance(value, str), field, value, "expected a string")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            # JSON can spell half a surrogate pair, and undecodable bytes are read as such; nothing can store either.
            around = value[max(0, error.start - 20) : error.end + 20]
            raise InvalidRecordError(field, around, f"is not UTF-8 text at character {error.start}") from None


def _expect_keys(value: Any, keys: tuple[str, ...], field: str) -> None:
    _expect(isinstance(value, Mapping) and set(value) == set(keys), field, value, f"expected {{{', '.join(keys)}}}")
