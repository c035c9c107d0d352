"""A process of its own, since Liger replaces functions of transformers for all models: `liger_worker.py FOLDER`.

Its Triton kernels cannot run without a GPU, so every training ends before its first forward pass.
"""

import sys
from pathlib import Path


TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "distributed"), str(TESTS)]

from cprs_tiny import tiny_critic  # noqa: E402
from everywhere import cprs, critic_runs, grpo, save_model, sft, sft_runs, solopo  # noqa: E402
from tiny import tiny_tokenizer  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel, TrainerCallback  # noqa: E402

from qwenlong_trl.engines.liger import liger_modules  # noqa: E402
from qwenlong_trl.sft import LongSFTTrainer  # noqa: E402


class EndedError(Exception):
    pass


class End(TrainerCallback):
    def on_train_begin(self, args, state, control, model=None, **kwargs):
        raise EndedError(len(liger_modules(model)), args.liger_kernel_config)


def begin(trainer) -> tuple:
    """Modules with Liger's kernels, and the configuration, when training begins."""
    trainer.add_callback(End)
    try:
        trainer.train()
    except EndedError as ended:
        return ended.args
    raise AssertionError("training went on")


def main(folder: Path) -> None:
    save_model(folder)
    liger = {"use_liger_kernel": True}
    # In this order: Liger also replaces the classes that models made later are built of.
    for config in ({"swiglu": False}, {}):
        for name, make in {"sft": sft, "solopo": solopo, "phased-grpo": grpo}.items():
            print(name, *begin(make(folder, 1, **liger, liger_kernel_config=config)))
    for backbone in ("qwen2", "qwen3", "llama"):
        args = critic_runs.make_args(folder / "out", **liger, liger_kernel_config={"rms_norm": True})
        print("cprs", *begin(critic_runs.make_trainer(args, model=tiny_critic(backbone=backbone))), backbone)
    try:
        cprs(folder, 1, **liger, liger_kernel_config={"fused_linear_cross_entropy": True})
    except ValueError as error:
        print("refused:", error)
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=43, n_positions=64, eos_token_id=1, pad_token_id=0)
    args = sft_runs.make_args(folder / "out", **liger)
    trainer = LongSFTTrainer(
        GPT2LMHeadModel(config),
        args=args,
        train_dataset=sft_runs.rows(sft_runs.EQUAL),
        processing_class=tiny_tokenizer(),
    )
    try:
        begin(trainer)
    except ValueError as error:
        print("refused:", error)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
