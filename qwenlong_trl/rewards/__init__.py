"""Rewards for long-context reading: rule scorers, and the same as TRL reward functions.

```python
>>> from qwenlong_trl.rewards import score_docqa
>>> score_docqa("<think>...</think>Therefore, the answer is Norway.", ["Norway"]).score
1.0
```

On the command line: `trl grpo --reward_funcs qwenlong_trl.rewards.rule_reward ...`, on a dataset with the columns
`prompt`, `answers` and `task`. Importing this package imports neither torch nor trl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names


_MODULE_OF = {
    "Comparison": "judge_prompt",
    "HybridReward": "hybrid",
    "Judge": "judge",
    "Judgement": "judge",
    "OpenAIJudge": "openai_judge",
    "RuleScore": "rules",
    "TransformersJudge": "transformers_judge",
    "UnparsableGoldError": "l1_compat",
    "docmath_reward": "rule_rewards",
    "docqa_reward": "rule_rewards",
    "extract_answer": "answers",
    "get_rule_reward": "rule_rewards",
    "multiple_choice_reward": "rule_rewards",
    "normalize_answer": "answers",
    "parse_number": "numbers",
    "rule_reward": "rule_rewards",
    "score_docmath": "rules",
    "score_docqa": "rules",
    "score_multiple_choice": "rules",
}

__all__ = sorted(_MODULE_OF)

if TYPE_CHECKING:
    from .answers import extract_answer as extract_answer
    from .answers import normalize_answer as normalize_answer
    from .hybrid import HybridReward as HybridReward
    from .judge import Judge as Judge
    from .judge import Judgement as Judgement
    from .judge_prompt import Comparison as Comparison
    from .l1_compat import UnparsableGoldError as UnparsableGoldError
    from .numbers import parse_number as parse_number
    from .openai_judge import OpenAIJudge as OpenAIJudge
    from .rule_rewards import docmath_reward as docmath_reward
    from .rule_rewards import docqa_reward as docqa_reward
    from .rule_rewards import get_rule_reward as get_rule_reward
    from .rule_rewards import multiple_choice_reward as multiple_choice_reward
    from .rule_rewards import rule_reward as rule_reward
    from .rules import RuleScore as RuleScore
    from .rules import score_docmath as score_docmath
    from .rules import score_docqa as score_docqa
    from .rules import score_multiple_choice as score_multiple_choice
    from .transformers_judge import TransformersJudge as TransformersJudge

__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
