"""Loong, the benchmark of questions over many documents at once (arXiv 2406.17419).

```python
>>> from qwenlong_trl.loong import Assembly, LoongDocuments, assemble, find_loong, read_loong, select
>>> records_path, documents_path = find_loong("loong")
>>> records = select(read_loong(records_path), sets=[1], domains=["financial"])
>>> prompts = assemble(records, LoongDocuments(documents_path), Assembly("official"))
```

Importing this package imports neither torch nor transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names


_MODULE_OF = {
    "Assembly": "assembly",
    "BM25Policy": "policies",
    "CPRSPolicy": "policies",
    "DensePolicy": "policies",
    "LoongDocument": "documents",
    "LoongDocuments": "documents",
    "LoongJudge": "judge",
    "LoongPrompt": "assembly",
    "LoongRecord": "records",
    "MiddlePolicy": "policies",
    "MissingDocumentsError": "documents",
    "Policy": "policies",
    "SUBTASKS": "records",
    "Scored": "metrics",
    "SkipPolicy": "policies",
    "StructuredScore": "scoring",
    "TASKS": "records",
    "aggregate": "metrics",
    "assemble": "assembly",
    "breakdown": "metrics",
    "compare": "comparison",
    "find_loong": "documents",
    "judge_messages": "judge",
    "overlong": "assembly",
    "parse_score": "judge",
    "read_loong": "records",
    "select": "records",
    "sentence_transformers_retriever": "retrieval",
    "structured_score": "scoring",
    "write_report": "report",
}

__all__ = sorted(_MODULE_OF)

if TYPE_CHECKING:
    from .assembly import Assembly as Assembly
    from .assembly import LoongPrompt as LoongPrompt
    from .assembly import assemble as assemble
    from .assembly import overlong as overlong
    from .comparison import compare as compare
    from .documents import LoongDocument as LoongDocument
    from .documents import LoongDocuments as LoongDocuments
    from .documents import MissingDocumentsError as MissingDocumentsError
    from .documents import find_loong as find_loong
    from .judge import LoongJudge as LoongJudge
    from .judge import judge_messages as judge_messages
    from .judge import parse_score as parse_score
    from .metrics import Scored as Scored
    from .metrics import aggregate as aggregate
    from .metrics import breakdown as breakdown
    from .policies import BM25Policy as BM25Policy
    from .policies import CPRSPolicy as CPRSPolicy
    from .policies import DensePolicy as DensePolicy
    from .policies import MiddlePolicy as MiddlePolicy
    from .policies import Policy as Policy
    from .policies import SkipPolicy as SkipPolicy
    from .records import SUBTASKS as SUBTASKS
    from .records import TASKS as TASKS
    from .records import LoongRecord as LoongRecord
    from .records import read_loong as read_loong
    from .records import select as select
    from .report import write_report as write_report
    from .retrieval import sentence_transformers_retriever as sentence_transformers_retriever
    from .scoring import StructuredScore as StructuredScore
    from .scoring import structured_score as structured_score

__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
