"""`python -m qwenlong_trl.loong.adapters`: how to call the harnesses, with the folders of this installation."""

import shlex
import sys

from . import LM_EVAL_FOLDER, METRIC_FOLDER


sys.stdout.write(
    f"""\
export LOONG_DATA=loong  # holds loong.jsonl and doc/ (or doc.zip)

inspect eval qwenlong_trl/loong -T set=1 --model MODEL --model-role grader=JUDGE
lm-eval run --include_path {shlex.quote(str(LM_EVAL_FOLDER))} --tasks loong_financial --model hf \\
    --model_args pretrained=MODEL --metadata '{{"set": 1, "max_tokens": 32768}}'

In Python: evaluate.load({str(METRIC_FOLDER)!r})
"""
)
