"""Made-up records of Loong with predictions and scores."""

import random
from dataclasses import replace

from qwenlong_trl.loong.metrics import Scored
from qwenlong_trl.loong.records import DOMAINS, LoongRecord


JUDGE = {
    "judge": "OpenAIJudge",
    "model": "some-judge",
    "prompt": "official",
    "prompt_sha256": "9d67b3da27c5eb80bb94160f",
}
ABOUT = {
    "model": "org/model",
    "mode": "fixed",
    "assembly": {"mode": "fixed", "policy": {"name": "bm25", "chunk_tokens": 1024}, "max_tokens": 4096},
    "sampling": {"temperature": 0.0, "max_tokens": 512},
    "judge": JUDGE | {"parse": "robust"},
    "records": 40,
    "selection": {"sets": [1, 2, 3, 4]},
}
OFFICIAL = ABOUT | {
    "mode": "official",
    "assembly": {"mode": "official", "policy": {"name": "skip"}, "max_tokens": 128_000},
    "judge": JUDGE | {"model": "gpt-4-turbo-2024-04-09", "parse": "official", "temperature": 0.0, "max_tokens": 512},
    "data": {"loong.jsonl": "sha256 cd640d3ca0e41d36"},
}
NO_JUDGE = ABOUT | {"judge": None}
MARKUP = "<script>alert('1')</script> & <b>\"$x$\"</b> [click](http://x) | **bold** `code` &amp;"
QUESTIONS = {
    ("legal", 2): "以上所有判决文书中，哪几篇是关于合同的？",
    ("financial", 2): "Which company has the highest net income?",
    ("legal", 4): "我将给你若干份判决结果：一、二",
}


def record(id="r1", set=1, level=1, type="financial", language=None, doc=("A", "B"), **values) -> LoongRecord:
    """A record whose sub-task follows from its domain and level."""
    answers = {1: "$42", 2: "A", 3: {"Reference": ["A"], "Citation": []}, 4: ["A", "B"]}
    return LoongRecord(
        **{"id": id, "set": set, "level": level, "type": type, "doc": tuple(doc)},
        language=language or ("zh" if type == "legal" else "en"),
        length=values.pop("length", 12_000),
        question=values.pop("question", QUESTIONS.get((type, level), f"What is the net income in {id}?")),
        instruction=values.pop("instruction", "Answer by a number."),
        prompt_template="{docs}\n\n{question}\n{instruction}",
        answer=values.pop("answer", answers[level]),
        shuffle_doc=True,
        **values,
    )


FATES = ("cut", "tokens", "truncated", "failed", "unjudged", "judge_cut")  # of a row, not of its record


def scored(id="r1", score=None, structured=None, prediction="42", kept=(), dropped=(), **of):
    """A row; `of` are what became of it, and fields of its record."""
    rest = {"kept": tuple(kept), "dropped": tuple(dropped), **{name: of.pop(name) for name in FATES if name in of}}
    return Scored(record(id, **of), prediction, score, structured, **rest)


def many(count=120, seed=0, judged=True, sets=(1, 2, 3, 4)) -> list[Scored]:
    """Random rows of all domains and levels, some without a completion, unparsed or cut; some share documents."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        domain = DOMAINS[i % 3]
        level = rng.choice((3, 4) if domain == "paper" else (1, 2, 3, 4))
        which = sets[i // 3 % len(sets)]
        answered, parsed = rng.random() > 0.05, rng.random() > 0.1
        good = rng.random() < 0.7 - 0.1 * which - 0.08 * level
        score = 100.0 if good else float(rng.randint(1, 90))
        structured = None if (domain, level) == ("financial", 4) else 0.0
        if answered and structured is not None:
            structured = 100.0 if good else round(rng.uniform(0, 80), 1)
        documents = 2 + rng.randrange(6)
        dropped = tuple(range(which)) if rng.random() < 0.3 and which < documents else ()
        rows.append(
            scored(
                f"id-{i:03}",
                score=score if judged and answered and parsed else None,
                structured=structured,
                prediction=f"The answer number {i} is 42." if answered else None,
                kept=tuple(range(len(dropped), documents)),
                dropped=dropped,
                cut=bool(dropped) or rng.random() < 0.2,
                tokens=rng.randrange(3_000, 4_000),
                **{"set": which, "level": level, "type": domain},
                doc=[f"{domain}-{i // 9}-{k}" for k in range(documents)] if i % 2 else [f"{domain}-{i // 9}"],
            )
        )
    return rows


def again(rows: list[Scored], seed=1) -> list[Scored]:
    """Another run over the same records."""
    rng = random.Random(seed)
    others = []
    for row in rows:
        better = rng.random() < 0.4
        values = {"prediction": "Another answer: 43."}
        values["structured"] = None if row.structured is None else 100.0 if better else row.structured / 2
        values["score"] = None if row.score is None else 100.0 if better else max(1.0, row.score // 2)
        others.append(replace(row, **values))
    return others
