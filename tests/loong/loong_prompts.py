"""Records of Loong with the three real templates, and what our judge's prompt shows of a prediction."""

import re

from qwenlong_trl.loong.judge_prompt import judge_messages
from qwenlong_trl.loong.records import LoongRecord


REPORTS = "{docs}\n\n{instruction}\n\n{question}"
CITATIONS = "#Papers:\n{docs}\n\n{instruction}\n\n#The paper you need to analyze:\n{question}"
CHAIN = "{instruction}\n\n#Papers Provided:\n{docs}"


def make_record(type="financial", level=1, template=REPORTS, question="Which?", instruction="Read.", answer="5 元"):
    return LoongRecord(
        "r", 1, level, type, "en", 20_000, question, instruction, template, ("a", "b"), answer, type != "legal"
    )


def shown(record: LoongRecord, prediction: str) -> dict[str, str]:
    """What stands between the tags of our prompt; exactly one text in each of its three places."""
    system, user = judge_messages(record, prediction, "default")
    assert (system["role"], user["role"]) == ("system", "user")
    tags = ("question", "reference", "candidate")
    pattern = "\n".join(f"<{tag}>(?P<{tag}>.*)</{tag}>" for tag in tags)  # `.` is no line feed
    match = re.fullmatch(rf"{pattern}\n\nHow well does .*\n?.*from 1 to 100\.", user["content"])
    assert match, user["content"]
    return match.groupdict()
