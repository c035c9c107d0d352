"""Evaluation on long-context questions: QwenLong-L1's protocol (arXiv 2505.17667, section 4.1) for any set of records.

```bash
qwenlong-trl eval --suite synthetic --model_name_or_path Qwen/Qwen3-4B --output results
```
```python
>>> from qwenlong_trl.evaluation import evaluate, load_run, load_suite, comparison_data
```

Importing this package imports neither torch nor transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names


_MODULE_OF = {
    "Answer": "scores",
    "Estimate": "metrics",
    "EffectiveLength": "metrics",
    "EvaluationProtocol": "protocol",
    "L1_SAMPLING": "protocol",
    "PUBLIC_NAMES": "suites",
    "ProtocolPrompt": "protocol",
    "Run": "run",
    "average_of_means": "metrics",
    "comparison_data": "report",
    "effective_length": "metrics",
    "evaluate": "run",
    "evidence_fifths": "metrics",
    "length_bucket": "metrics",
    "load_run": "run",
    "load_suite": "suites",
    "markdown_comparison": "tables",
    "markdown_report": "tables",
    "mean_with_interval": "metrics",
    "paired_difference": "metrics",
    "pass_at_k": "metrics",
    "pass_at_k_curve": "metrics",
    "print_report": "tables",
    "protocol_prompt": "protocol",
    "report_data": "report",
    "resampled_effective_length": "metrics",
    "score_completions": "scores",
    "spread_sample": "suites",
    "truncate_middle": "protocol",
    "unfinished": "tables",
    "write_report": "run",
}

__all__ = sorted(_MODULE_OF)

if TYPE_CHECKING:
    from .metrics import EffectiveLength as EffectiveLength
    from .metrics import Estimate as Estimate
    from .metrics import average_of_means as average_of_means
    from .metrics import effective_length as effective_length
    from .metrics import evidence_fifths as evidence_fifths
    from .metrics import length_bucket as length_bucket
    from .metrics import mean_with_interval as mean_with_interval
    from .metrics import paired_difference as paired_difference
    from .metrics import pass_at_k as pass_at_k
    from .metrics import pass_at_k_curve as pass_at_k_curve
    from .metrics import resampled_effective_length as resampled_effective_length
    from .protocol import L1_SAMPLING as L1_SAMPLING
    from .protocol import EvaluationProtocol as EvaluationProtocol
    from .protocol import ProtocolPrompt as ProtocolPrompt
    from .protocol import protocol_prompt as protocol_prompt
    from .protocol import truncate_middle as truncate_middle
    from .report import comparison_data as comparison_data
    from .report import report_data as report_data
    from .run import Run as Run
    from .run import evaluate as evaluate
    from .run import load_run as load_run
    from .run import write_report as write_report
    from .scores import Answer as Answer
    from .scores import score_completions as score_completions
    from .suites import PUBLIC_NAMES as PUBLIC_NAMES
    from .suites import load_suite as load_suite
    from .suites import spread_sample as spread_sample
    from .tables import markdown_comparison as markdown_comparison
    from .tables import markdown_report as markdown_report
    from .tables import print_report as print_report
    from .tables import unfinished as unfinished

__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
