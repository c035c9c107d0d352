"""What the lm-eval tasks in the folder `lm_eval` are made of: records with their prompts, and the structured score.

```bash
export LOONG_DATA=loong
lm-eval run --include_path "$(python -c 'from qwenlong_trl.loong.adapters import LM_EVAL_FOLDER as f; print(f)')" \\
    --tasks loong_financial --model hf --model_args pretrained=Qwen/Qwen2.5-7B-Instruct --apply_chat_template \\
    --metadata '{"set": 1, "policy": "bm25", "max_tokens": 32768}'
```

Options go through `--metadata`, see `OPTIONS`. `max_tokens` has to be what the model takes: lm-eval cuts off the
beginning of longer prompts without a word. Another length of answers than 2,048 tokens is to be said twice, as
`answer_tokens` there and by `--gen_kwargs max_gen_toks=...`. lm-eval has no judge, so records that have free text for
an answer (financial level 4) are left out. Its standard errors take questions over the same documents for independent.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..records import LoongRecord
from ..scoring import structured_score
from .prompts import make_prompts


if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

# Keys of `--metadata` that are arguments of `make_prompts`. The arguments of the model stand there, too.
OPTIONS = ("folder", "set", "level", "language", "limit", "mode", "policy")
OPTIONS += ("max_tokens", "answer_tokens", "tokenizer", "seed", "skip_missing")
# What these options are called elsewhere. lm-eval hands over anything, and a run without its options is another run.
_OTHER_NAMES = {"data": "folder", "sets": "set", "levels": "level", "languages": "language"}
_OTHER_NAMES |= {"domain": "--tasks loong_DOMAIN", "domains": "--tasks loong_DOMAIN", "context_tokens": "max_tokens"}


def loong_dataset(loong_domain: str | None = None, **metadata: Any) -> dict[str, Dataset]:
    """
    The records of a domain with their prompts, as the split `test`.

    Args:
        loong_domain (`str`, *optional*):
            Set by the task; all domains by default.
        metadata (`dict[str, Any]`):
            What `--metadata` gives, see `OPTIONS`, with the arguments of the model. Of these, `pretrained` is the
            default of `tokenizer`, and `max_length` that of `max_tokens`.
    """
    from datasets import Dataset

    for key in _OTHER_NAMES.keys() & metadata.keys():
        raise ValueError(f"--metadata has no option {key!r} for Loong; {_OTHER_NAMES[key]} is meant")
    options = {key: metadata[key] for key in OPTIONS if metadata.get(key) is not None}
    if options.get("mode", "fixed") == "fixed":
        for option, argument in (("tokenizer", "pretrained"), ("max_tokens", "max_length")):
            if metadata.get(argument) is not None:
                options.setdefault(option, metadata[argument])
    prompts = make_prompts(domain=loong_domain, **options, wanted=_has_score)
    about = json.dumps(prompts.about, ensure_ascii=False)
    logger.info(f"Loong: {len(prompts.pairs)} records, assembly {about}")
    rows = [
        {
            **{"id": record.id, "prompt": made.prompt, "record": json.dumps(record.to_dict(), ensure_ascii=False)},
            **{"target": json.dumps(record.answer, ensure_ascii=False), "assembly": about},
            **{"kept": list(made.kept), "dropped": list(made.dropped), "cut": made.cut, "tokens": made.tokens},
        }
        for record, made in prompts.pairs
    ]
    return {"test": Dataset.from_list(rows)}


def score(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """The structured score, from 0 to 100, under its own name and that of the sub-task, and whether it is exact."""
    record = LoongRecord.from_dict(json.loads(doc["record"]))
    found = structured_score(record, results[0])
    if found is None:
        raise ValueError(f"record {record.id}: free text has no structured score")
    return {"structured": found.score, "exact": float(found.exact), metric_name(record.subtask): found.score}


def metric_name(subtask: str) -> str:
    """A sub-task as the name of a metric: "Citation&Reference" is `citation_reference`."""
    return re.sub("[^a-z]+", "_", subtask.lower())


def _has_score(record: LoongRecord) -> bool:
    return (record.type, record.level) != ("financial", 4)
