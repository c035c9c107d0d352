"""A record and documents made on the spot, and a fit that is checked: budget, headers, blank lines."""

from cprs_tiny import tiny_critic_tokenizer
from hypothesis import strategies as st

from qwenlong_trl.loong.documents import LoongDocument
from qwenlong_trl.loong.records import LoongRecord


TOKENIZER = tiny_critic_tokenizer()


def count(text):
    return len(TOKENIZER(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def make_record(question="What is the net income?", documents=1, **values):
    fields = {"id": "r", "set": 1, "level": 1, "type": "financial", "language": "en", "length": 1}
    fields |= {"question": question, "instruction": "Answer from the documents.", "prompt_template": "{docs}"}
    fields |= {"doc": tuple(f"d{i}" for i in range(documents)), "answer": "1", "shuffle_doc": True}
    return LoongRecord(**fields | values)


def make_documents(bodies, headers=None):
    headers = headers or [f"《{i}》" for i in range(len(bodies))]
    return [LoongDocument(f"d{i}", head, body) for i, (head, body) in enumerate(zip(headers, bodies, strict=True))]


def fit(policy, documents, budget, question="What is the net income?", counted=count):
    record = make_record(question, len(documents))
    fitted = policy.fit(record, documents, [document.render() for document in documents], budget, counted)
    assert len(fitted.texts) == len(documents)
    assert counted("".join(fitted.texts)) <= max(budget, 0)
    for document, text in zip(documents, fitted.texts, strict=True):
        assert text == "" or (text.startswith(document.header + "\n") and text.endswith("\n\n"))
    return fitted.texts


PIECES = [
    "Net income",
    " rose. ",
    "\n",
    "|1,432,023.19|",
    "营业收入",
    "增长了。",
    "👩‍🔬",
    "e\u0301",
    "<|im_start|>",
    "  ",
]
BODIES = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=40).map(
    lambda pieces: "".join(pieces).encode("utf-8", "ignore").decode()
)
