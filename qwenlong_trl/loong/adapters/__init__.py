"""Loong in other harnesses: inspect-ai, lm-eval and `evaluate`, and results for model repositories on the hub.

```bash
python -m qwenlong_trl.loong.adapters  # prints the folders and the commands
```

Each module needs its harness, `pip install "qwenlong-trl[harness]"`; importing this package needs none.
"""

from pathlib import Path


LM_EVAL_FOLDER = Path(__file__).parent / "lm_eval"  # for `lm-eval run --include_path`
METRIC_FOLDER = Path(__file__).parent / "loong_metric"  # for `evaluate.load`
