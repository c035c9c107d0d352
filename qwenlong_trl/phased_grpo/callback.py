"""The callback of [`PhasedGRPOTrainer`]: announces phases, and logs, evaluates and saves where they end.

It holds no state: everything follows from `global_step` and the config, so nothing has to be restored on resume.
"""

from __future__ import annotations

from tqdm.auto import tqdm
from transformers.trainer_utils import SaveStrategy
from transformers.utils import logging

from ..engines.liger import LigerCheck
from .plan import PhasePlan


logger = logging.get_logger(__name__)


class CurriculumCallback(LigerCheck):
    """
    Added by [`PhasedGRPOTrainer`] itself.

    - At the end of a phase: logs; evaluates if `eval_strategy` is not `"no"`; saves if `save_strategy` is not `"no"`.
    - Saves fall on the ends of generation windows: a save that is due within a window waits for its end, since the
      window's completions are not part of a checkpoint.
    - When training begins: what [`LigerCheck`] does.
    """

    def on_step_begin(self, args, state, control, **kwargs):
        plan = PhasePlan.of(args)
        k, step = plan.phase_at_step(state.global_step)
        if step == 0 and state.is_world_process_zero:
            phase = args.phases[k]
            settings = ", ".join(f"{name} {value}" for name, value in phase.settings().items() if name != "name")
            message = f"{phase.name} ({k + 1} of {len(args.phases)}): {settings}"
            logger.info(message)
            if not args.disable_tqdm:
                tqdm.write(message)

    def on_step_end(self, args, state, control, **kwargs):
        plan = PhasePlan.of(args)
        step = state.global_step
        if not plan.is_window_boundary(step):
            control.should_save = False
        elif args.save_strategy == SaveStrategy.STEPS and state.save_steps:
            # A save that was due at any step since the last end of a window, the only places where one can be.
            due = step // state.save_steps * state.save_steps
            control.should_save = control.should_save or due > step - plan.steps_between_boundaries
        if step in plan.phase_ends:
            control.should_log = True
            control.should_evaluate = control.should_evaluate or args.eval_strategy != "no"
            control.should_save = control.should_save or args.save_strategy != SaveStrategy.NO
        return control
