"""What `qwenlong_trl.hub.trainer` touches of how `Trainer` pushes.

When a new version fails one, its docstring says what we need and what to change in our code.
"""

from concurrent.futures import Future

from observed import parameters_of
from transformers import Trainer
from transformers.utils.hub import PushInProgress


def test_pushes_during_a_training():
    """`HubCards` overrides both, to tell of pushes that failed and to bring a critic's code along.

    If one is gone: look for what pushes at a save and for what waits at the end, and override that.
    """
    assert parameters_of(Trainer._push_from_checkpoint) == ["self", "checkpoint_folder"]
    assert parameters_of(Trainer._finish_current_push) == ["self"]


def test_errors_of_pushes_are_dropped():
    """`HubCards._report_failed_push` reads the errors from `jobs`, since waiting does not raise them.

    If it does: let it, and tell the error where it arrives.
    """
    job = Future()
    job.set_exception(OSError("refused"))
    push = PushInProgress([job])
    push.wait_until_done()
    assert push.is_done() and isinstance(push.jobs[0].exception(), OSError)


def test_arguments_of_push_to_hub():
    """`HubCards.push_to_hub` hands all of them on, and further ones arrive at `create_model_card`."""
    names = parameters_of(Trainer.push_to_hub)
    assert {"commit_message", "blocking", "token", "revision", "private", "kwargs"} <= set(names)
    assert parameters_of(Trainer.init_hf_repo) == ["self", "token", "private"]
