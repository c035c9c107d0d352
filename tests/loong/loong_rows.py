"""How the tests of Loong put prompts together."""

from qwenlong_trl.loong.assembly import Assembly
from qwenlong_trl.loong.policies import SkipPolicy


def fixed(tokenizer, max_tokens=100_000, policy=None, seed=0) -> Assembly:
    """The fixed mode, which skips whole documents unless another policy is given."""
    return Assembly("fixed", max_tokens, policy or SkipPolicy(), seed, tokenizer)
