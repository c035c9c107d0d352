"""GRPO over phases of growing context length, with retrospective and dynamic sampling, exact on resume.

Paper: QwenLong-L1 (arXiv 2505.17667), sections 2.3 (phased RL, retrospective sampling) and 2.2 (GRPO, DAPO).

One `train()` spans all phases. The phase is a function of the step, the prompts of a generation window are a function
of the seed, the phase and what was carried into it; so a checkpoint needs one small JSON file besides the trainer's
own.

```txt
 step ──> phase ──> settings of the phase ──────────────┐
   │         └────> enter: freeze the carried prompts   ├──> super()._generate_and_score_completions ──> dynamic
   sampling └────> window ─> rows of the window ─────────────────┘         │
                         difficulty  <── observe  <── super()._calculate_rewards
```
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.utils.data import Sampler
from tqdm.auto import tqdm
from transformers.utils import logging
from trl import GRPOTrainer

from ..engines.activation_checkpointing import fix_activation_checkpointing
from ..engines.liger import check_liger_loss, liger_grpo_loss
from ..hub.trainer import HubCards
from ..prefix_sharing import PrefixSharingMixin
from .callback import CurriculumCallback
from .checkpointing import CurriculumCheckpoints
from .config import PhasedGRPOConfig
from .curriculum import Difficulty
from .dynamic_sampling import fill_dead_groups, live_groups, loss_tokens, mask_rows
from .engine import start_engine
from .fingerprint import fingerprint
from .lengths import build_curriculum
from .masked_loss import masked_loss
from .metrics import describe_phases, window_metrics
from .paper import CARD_ARGUMENTS, PAPER
from .phase import LIVE_ATTRIBUTES
from .plan import PhasePlan
from .processing import load_processing_class
from .resume import checkpoint_to_resume, run_signature, write_json
from .reward_faults import checked_rewards
from .rollouts import Rollouts, checked_rollout_func, require_tokens
from .sampler import WindowClock, reserve_rows, window_rows
from .schedule import phased_lr_lambda
from .start_policy import StartPolicy


logger = logging.get_logger(__name__)


class PhasedGRPOTrainer(CurriculumCheckpoints, PrefixSharingMixin, HubCards, GRPOTrainer):
    """
    [`~trl.GRPOTrainer`] with a curriculum over context length. Every argument that is not named here is the same
    there.

    Args:
        model (`str`, [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            The policy.
        reward_funcs (`RewardFunc` or `list[RewardFunc]`):
            Rewards. One of them is the accuracy, see `accuracy_reward` of [`PhasedGRPOConfig`].
        args ([`PhasedGRPOConfig`]):
            The configuration.
        train_dataset ([`~datasets.Dataset`]):
            Prompts with whatever columns the rewards need. `id` names a prompt (row numbers otherwise) and
            `prompt_length` its tokens (counted otherwise). Streaming data sets have no lengths and are refused.
        processing_class ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Loaded from the model where it is left out.

    Raises:
        `ValueError`: before a model is loaded, if a phase has fewer prompts than one generation batch needs; before
        the first step, if a prompt does not fit the vLLM engine.
        [`CurriculumMismatchError`]: on resume, if the checkpoint has another plan, data set, setting or version.
        [`RewardError`]: if a reward function raises, or returns anything but a number or `None` for each completion.
    """

    _tag_names = ["trl", "grpo", "qwenlong-trl", "phased-grpo"]
    _name = "PhasedGRPO"
    _paper = PAPER
    _card_template = "phased_grpo"
    _card_arguments = CARD_ARGUMENTS

    def __init__(
        self,
        model,
        reward_funcs=None,
        args=None,
        train_dataset=None,
        eval_dataset=None,
        processing_class=None,
        **kwargs,
    ):
        if not isinstance(args, PhasedGRPOConfig):
            raise TypeError(f"PhasedGRPOTrainer needs `args` to be a PhasedGRPOConfig, got {type(args).__name__}")
        if processing_class is None:
            processing_class = load_processing_class(model, args)
        self.plan = PhasePlan.of(args)
        self.curriculum = build_curriculum(args, train_dataset, processing_class)
        data = fingerprint(train_dataset, self.curriculum.ids, self.curriculum.lengths)
        self._rollouts: Rollouts | None = None
        self._scoring: dict[str, Difficulty] | None = None

        super().__init__(
            model,
            reward_funcs,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        self.rollout_func = checked_rollout_func(self.rollout_func)
        fix_activation_checkpointing(self.model, args)
        if args.use_liger_loss:
            check_liger_loss(self)
        start_engine(self)
        self._signature = run_signature(args, data, self.reward_func_names)
        name = args.accuracy_reward or self.reward_func_names[0]
        if name not in self.reward_func_names:
            raise ValueError(f"accuracy_reward={name!r} is none of the reward functions {self.reward_func_names}")
        self._accuracy_column = self.reward_func_names.index(name)
        self._configured = {attribute: getattr(self, attribute) for attribute in LIVE_ATTRIBUTES.values()}
        self._start_policy = StartPolicy(self) if args.log_kl_to_start else None
        self.add_callback(CurriculumCallback())

    # ---- set-up -----------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        if resume_from_checkpoint is True:
            resume_from_checkpoint = checkpoint_to_resume(self.args.output_dir)
        # No completions and no statistics of an earlier `train()` on this object survive.
        self._step, self._buffered_inputs = 0, None
        self.curriculum.reset()
        return super().train(resume_from_checkpoint, *args, **kwargs)

    # The loader only counts windows: their prompts are chosen when they are generated, see `sampler.py`.
    def get_train_dataloader(self):
        dataset = self.train_dataset
        self.train_dataset = range(self.plan.windows)
        try:
            return super().get_train_dataloader()
        finally:
            self.train_dataset = dataset

    def _get_train_sampler(self, dataset=None) -> Sampler:
        return WindowClock(self.plan.windows, self.plan.window * self.args.generation_batch_size)

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        if self.lr_scheduler is None:
            optimizer = self.optimizer if optimizer is None else optimizer
            rate = phased_lr_lambda(self.args, optimizer)
            if rate is not None:
                self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
                self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    # ---- a generation window ----------------------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs):
        if not self.model.training:
            return super()._generate_and_score_completions(inputs)
        k, window = self.plan.phase_at_window(self._step // self.plan.window)
        self._apply_phase(k)
        self._enter_phase(k)
        pool = self.curriculum.pool(k)
        size = self.args.prompts_per_window
        if window and window % (len(pool) // size) == 0:
            # TRL's loader draws a seed at the start of every pass; ours has one pass. With the same draw, the random
            # numbers of a run with one phase and no features are those of `GRPOTrainer`.
            torch.empty((), dtype=torch.int64).random_()
        seed = self.args.seed + 7919 * k  # phase 0 has the order of TRL's sampler
        rows = window_rows(pool, window, size, seed, shuffle=self.shuffle_dataset)
        output, rollouts = self._roll_out(rows)
        if self.args.dynamic_sampling == "resample":
            output = self._resample(output, rollouts, pool, seed, window)
        self._log_rollouts(k, output, rollouts)
        if self.args.dynamic_sampling != "off":
            output = self._mask(output, rollouts)
        return output

    def _roll_out(self, rows: list[int]) -> tuple[dict[str, Any], Rollouts]:
        """`num_generations` scored completions of each row; this process generates its share of the groups."""
        repeated = [row for row in rows for _ in range(self.num_generations)]
        share = len(repeated) // self.accelerator.num_processes
        start = self.accelerator.process_index * share
        examples = {row: self.train_dataset[row] for row in dict.fromkeys(repeated[start : start + share])}
        self._rollouts = Rollouts(repeated)
        try:
            # Copies: TRL may write extra fields of a rollout into its row.
            inputs = [dict(examples[row]) for row in repeated[start : start + share]]
            return super()._generate_and_score_completions(inputs), self._rollouts
        finally:
            self._rollouts = None

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        # (R, functions), the rows of all ranks
        with checked_rewards(self, inputs):
            rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self._rollouts is not None:
            ends = {*self.eos_token_ids, self._tokenizer.pad_token_id}
            self._rollouts.truncated = gather_object([not ids or ids[-1] not in ends for ids in completion_ids_list])
            self._rollouts.accuracies = rewards[:, self._accuracy_column].tolist()
            sums = (rewards * self.reward_weights.to(rewards.device)).nansum(dim=1)
            sums[rewards.isnan().all(dim=1)] = torch.nan  # scored by no function
            self._rollouts.rewards = sums.tolist()
            ids = [self.curriculum.ids[row] for row in self._rollouts.rows]
            self.curriculum.observe(ids, self._rollouts.accuracies, into=self._scoring)
        return rewards

    def _generate_single_turn(self, *args, **kwargs):
        completion_ids, logprobs = super()._generate_single_turn(*args, **kwargs)
        if not self.tools:  # after the answer of a tool, nothing more may come
            require_tokens(completion_ids, self.state.global_step + 1)
        return completion_ids, logprobs

    def _tokenize_prompts(self, prompts: list):
        # A group repeats its prompt: tokenise it once. Images are tied to rows, so vision models keep the stock path.
        if self._is_vlm or self.environment_factories is not None:
            return super()._tokenize_prompts(prompts)
        first = [i for i in range(len(prompts)) if i == 0 or prompts[i] != prompts[i - 1]]
        ids, images, fields = super()._tokenize_prompts([prompts[i] for i in first])
        counts = [end - start for start, end in zip(first, [*first[1:], len(prompts)], strict=True)]
        return [list(row) for row, count in zip(ids, counts, strict=True) for _ in range(count)], images, fields

    # ---- phases -----------------------------------------------------------------------------------------------------

    def _apply_phase(self, k: int) -> None:
        """Puts the phase's settings where TRL reads them at every step."""
        phase = self.args.phases[k]
        for name, attribute in LIVE_ATTRIBUTES.items():
            value = getattr(phase, name)
            setattr(self, attribute, self._configured[attribute] if value is None else value)
        if phase.epsilon is not None and phase.epsilon_high is None and self.args.epsilon_high is None:
            self.epsilon_high = phase.epsilon  # TRL's rule: the upper bound follows the lower where it is not set
        length = phase.max_completion_length or self.args.max_completion_length
        self.max_completion_length = length
        if self.use_vllm:
            self.vllm_generation.max_completion_length = length
        else:
            self.generation_config.max_new_tokens = length
            self.generation_kwargs["max_new_tokens"] = length

    def _enter_phase(self, k: int) -> None:
        """Freezes what is carried into phase k, on its first window, when all earlier rewards are known."""
        if k == 0 or self.args.retrospective == "none" or k in self.curriculum.carried:
            return
        scored = self._score_earlier_prompts(k) if self.args.difficulty == "scoring" else None
        self.curriculum.enter(k, scored)
        table = self.curriculum.carried_table(k)
        phase = self.args.phases[k].name
        logger.info(f"{phase}: {len(table)} prompts carried from earlier phases ({self.args.retrospective})")
        if self.args.should_save:
            write_json(Path(self.args.output_dir) / "curriculum" / f"carried_{phase}.json", table)

    def _score_earlier_prompts(self, k: int) -> dict[str, Difficulty]:
        """Rolls out every prompt of the phases before k, with the policy that enters phase k and with its limits."""
        rows, size = self.curriculum.earlier_rows(k), self.args.prompts_per_window
        self._scoring, metrics, logs = {}, self._metrics["train"], self._logs
        # These rollouts are not trained on: they stay out of the metrics and the completions table.
        self._metrics["train"] = defaultdict(list)
        self._logs = {key: defaultdict(list) if isinstance(value, dict) else [] for key, value in logs.items()}
        hidden = self.args.disable_tqdm or not self.accelerator.is_main_process
        try:
            for start in tqdm(range(0, len(rows), size), desc="Scoring earlier prompts", disable=hidden):
                batch = rows[start : start + size]
                self._roll_out(batch + rows[: size - len(batch)])
            return {i: self._scoring[i] for i in (self.curriculum.ids[row] for row in rows) if i in self._scoring}
        finally:
            self._scoring, self._metrics["train"], self._logs = None, metrics, logs

    # ---- dynamic sampling -------------------------------------------------------------------------------------------

    def _resample(self, output, rollouts: Rollouts, pool: list[int], seed: int, window: int):
        taken = list(dict.fromkeys(rollouts.rows))

        def roll_out(draw: int, count: int):
            rows = reserve_rows(pool, taken, count, seed, window, draw)
            taken.extend(rows)
            return self._roll_out(rows)

        n, ranks, here = self.num_generations, self.accelerator.num_processes, self.accelerator.process_index
        output, rounds = fill_dead_groups(
            output, rollouts, roll_out, n, ranks, here, self.args.max_resample_rounds, self._tokenizer.pad_token_id
        )
        unfilled = live_groups(rollouts.accuracies, n).count(False)
        self._metrics["train"]["curriculum/resample_rounds"].append(rounds)
        self._metrics["train"]["curriculum/unfilled_groups"].append(unfilled)
        if unfilled:
            logger.info(f"{unfilled} groups without signal were left after {rounds} rounds of resampling; masked")
        return output

    def _mask(self, output, rollouts: Rollouts):
        groups = live_groups(rollouts.accuracies, self.num_generations)
        live = [alive for alive in groups for _ in range(self.num_generations)]
        share = len(live) // self.accelerator.num_processes
        start = self.accelerator.process_index * share
        here = torch.tensor(live[start : start + share], device=output["completion_mask"].device)
        output = mask_rows(output, here, self.loss_type, sum(live) / len(live))
        output["num_items_in_batch"] = self.accelerator.gather(loss_tokens(output)).sum()
        return output

    def _compute_loss(self, model, inputs):
        with masked_loss(self, inputs):
            if self.args.use_liger_loss:
                return liger_grpo_loss(self, model, inputs)
            return super()._compute_loss(model, inputs)

    # ---- metrics and what is told of the run ------------------------------------------------------------------------

    def _log_rollouts(self, k: int, output, rollouts: Rollouts) -> None:
        metrics = self._metrics["train"]
        metrics["curriculum/max_completion_length"].append(self.max_completion_length)
        for name, value in window_metrics(rollouts, self.curriculum, k, self.num_generations).items():
            metrics[name].append(value)
        if self._start_policy is not None:
            for name, value in self._start_policy.measure(output, rollouts.rows, self.curriculum).items():
                metrics[name].append(value)

    def _run_details(self) -> dict[str, Any]:
        return {"rewards": self.reward_func_names, **describe_phases(self.curriculum)}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.model.training and self.state.global_step > 0:
            # The callback logs where a phase ends, so what is averaged here belongs to one phase.
            metrics = self._metrics["train"]
            phase = self.args.phases[self.plan.phase_at_step(self.state.global_step - 1)[0]]
            for name in ("reward", "accuracy", "entropy", "kl", "kl_to_start", "zero_variance", "truncated"):
                if metrics.get(name):
                    metrics[f"curriculum/{phase.name}/{name}"] = list(metrics[name])
        super().log(logs, start_time)
