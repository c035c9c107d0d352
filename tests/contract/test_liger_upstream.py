"""What `qwenlong_trl.engines.liger` relies on in transformers and Liger beyond their documented surface.

One test for each name. When a new version fails one, its docstring says what we need the name for and what to do.
"""

import inspect

import pytest
from cprs_tiny import tiny_critic
from transformers.integrations.liger import apply_liger_kernel
from transformers.trainer_utils import unwrap_peft_model

from qwenlong_trl.engines.liger import liger_modules


pytest.importorskip("liger_kernel", reason="pip install 'qwenlong-trl[liger]'")


def test_transformers_has_no_kernels_for_a_critic():
    """Why `patch_critic` exists. If it fails: delete `patch_critic`, and let transformers do it."""
    critic = tiny_critic()
    apply_liger_kernel(critic, {"fused_linear_cross_entropy": False})
    assert liger_modules(critic) == []


@pytest.mark.parametrize("backbone", ["qwen2", "qwen3", "llama"])
def test_kernels_of_the_backbones_by_name(backbone):
    """`patch_critic` looks them up in this table. If it moved: take the new place, or `apply_liger_kernel_to_*`."""
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    known = inspect.signature(MODEL_TYPE_TO_APPLY_LIGER_FN[backbone]).parameters
    assert {"model", "rms_norm", "swiglu", "rope", "cross_entropy", "fused_linear_cross_entropy"} <= set(known)


def test_unwrapping_of_peft_models():
    """`CPRSTrainer` patches what is within an adapter. If it moved: `model.get_base_model()` where there is one."""
    critic = tiny_critic()
    assert unwrap_peft_model(critic) is critic
