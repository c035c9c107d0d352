"""Stopping a run by a signal without losing work: a checkpoint at the next place where one can be, and a clean end.

```python
>>> with StopOnSignal() as stop:
...     trainer.add_callback(stop)
...     trainer.train()
>>> if stop.stopped:
...     print(stop.how_to_resume(trainer.args, "trainer.train(resume_from_checkpoint=True)"))
```
"""

from __future__ import annotations

import os
import signal
import threading
import time

import torch
from accelerate.utils import reduce
from transformers import TrainerCallback


SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SAME = 1.0  # seconds within which torchrun passes a signal on that its workers have had from the terminal already


class StopOnSignal(TrainerCallback):
    """
    A callback for any [`~transformers.Trainer`]: after SIGTERM or SIGINT, training saves and ends at the end of the
    step; under [`PhasedGRPOTrainer`] at the end of the generation window, where a checkpoint can be. A second signal
    does at once what it does otherwise. It saves whatever `save_strategy` says.

    Of several processes it is enough that one gets the signal: they agree at the end of the step. All need the
    callback.

    Handlers are set while `train()` runs, in the main thread only, and restored at its end. If `train()` may raise,
    use the object as a context manager, too, so that they are restored then as well.

    Attributes:
        stopped (`bool`):
            Whether training ended for the signal, before all steps were done.
        signal_name (`str` or `None`):
            The signal that this process got.
    """

    def __init__(self):
        self.stopped = False
        self.signal_name: str | None = None
        self._step = self._of = 0
        self._received_at = 0.0
        self._before: dict[int, object] = {}
        self._process = 0

    def __enter__(self) -> StopOnSignal:
        return self

    def __exit__(self, *error) -> None:
        self._restore()

    # ---- signals ----------------------------------------------------------------------------------------------------

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            # `None`: set from outside of Python, which Python cannot do again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _receive(self, number: int, frame) -> None:
        again = self.signal_name is not None
        if again and "TORCHELASTIC_RUN_ID" in os.environ and time.monotonic() - self._received_at < _SAME:
            return
        child = os.getpid() != self._process  # forked since: a worker of a data loader, for example
        # From a terminal, children get SIGINT as well, and are needed until the end of the step.
        if again or (child and number != signal.SIGINT):
            self._restore()
            signal.raise_signal(number)
            return
        self.signal_name, self._received_at = signal.Signals(number).name, time.monotonic()
        if child:
            return
        # Not `print`: this may have interrupted one.
        os.write(2, f"{self.signal_name}: saving and stopping as soon as possible; again to stop at once\n".encode())

    # ---- training ---------------------------------------------------------------------------------------------------

    def on_train_begin(self, args, state, control, **kwargs):
        self.stopped, self.signal_name = False, None
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._process = os.getpid()
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % getattr(args, "steps_per_window_multiple", 1) == 0 and self._anyone(args):
            control.should_training_stop = True
            control.should_save = True
            self.stopped = state.global_step < state.max_steps
            self._step, self._of = state.global_step, state.max_steps
        return control

    def on_train_end(self, args, state, control, **kwargs):
        self._restore()

    def _anyone(self, args) -> bool:
        """Whether any process has got a signal."""
        here = self.signal_name is not None
        if args.world_size == 1:
            return here
        return bool(reduce(torch.tensor(float(here), device=args.device), "sum").item())

    def how_to_resume(self, args, command: str) -> str:
        """One line: where training stopped, where it was saved, and with which `command` it goes on."""
        folder = os.path.join(args.output_dir, f"checkpoint-{self._step}")
        signal_name = self.signal_name or "a signal to another process"
        if args.save_only_model:
            return (
                f"stopped by {signal_name} after step {self._step} of {self._of}; {folder} has the weights alone "
                "(save_only_model), so that training cannot go on from there as if it had not stopped"
            )
        where = f"after step {self._step} of {self._of}, saved to {folder}"
        return f"stopped by {signal_name} {where}; to go on: {command}"
