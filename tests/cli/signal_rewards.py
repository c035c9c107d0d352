"""A reward for command lines: the parity of the answer, and SIGTERM once when the run has got so far."""

import os
import signal

from tiny import parity_reward


def parity_then_stop(completions, trainer_state, **columns):
    if trainer_state.global_step == int(os.environ.get("STOP_AFTER", "-1")):
        os.kill(os.getpid(), signal.SIGTERM)
    return parity_reward(completions)
