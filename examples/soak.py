"""A run that is killed again and again, also in the middle of saves, ends where an undisturbed one ends.

PhasedGRPO on a tiny model, once undisturbed and once under SIGKILL: a parent starts it, kills it at a moment that a
seed chooses, checks every checkpoint, and starts it again from the newest complete one, until it has come to its end.
The weights must then be equal to the bit. On one CPU core it takes some minutes:

```bash
python examples/soak.py --steps 200 --kills 25
```

The children are forked from a parent that has imported everything, so that a restart takes no longer than making a
model.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import torch
from datasets import Dataset
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.trainer_pt_utils import safe_globals

from qwenlong_trl import Phase, PhasedGRPOConfig, PhasedGRPOTrainer
from qwenlong_trl.checkpoints import missing_part, newest_complete_checkpoint


WORDS = [f"w{i}" for i in range(40)]
SAVE_EVERY = 4  # steps
# The moments of a save, in order.
SAVING = ("save: curriculum", "save: model", "save: optimizer", "save: random state", "save: state, old ones deleted")


class Board:
    """Memory that a child shares with its parent, where it says what it is doing; it outlives the child."""

    SIZE = 128

    def __init__(self):
        self._memory = mmap.mmap(-1, self.SIZE)

    def write(self, step: int, moment: str) -> None:
        self._memory[:] = f"{step} {moment}".encode().ljust(self.SIZE, b"\0")

    def read(self) -> tuple[int, str]:
        step, _, moment = self._memory[:].rstrip(b"\0").decode().partition(" ")
        return int(step or -1), moment


class WatchedTrainer(PhasedGRPOTrainer):
    """Tells the board where it is. What it computes is untouched."""

    board: Board

    def tell(self, moment: str) -> None:
        self.board.write(self.state.global_step, moment)

    def _generate_and_score_completions(self, inputs):
        self.tell("rollouts")
        return super()._generate_and_score_completions(inputs)

    def _calculate_rewards(self, *arguments):
        self.tell("rewards")
        return super()._calculate_rewards(*arguments)

    def compute_loss(self, *arguments, **keywords):
        self.tell("loss, gradients, optimizer")
        return super().compute_loss(*arguments, **keywords)

    def _save_checkpoint(self, model, trial):
        self.tell(SAVING[0])
        super()._save_checkpoint(model, trial)
        self.tell("between steps")

    def save_model(self, *arguments, **keywords):
        self.tell(SAVING[1])
        super().save_model(*arguments, **keywords)

    def _save_optimizer_and_scheduler(self, output_dir):
        self.tell(SAVING[2])
        super()._save_optimizer_and_scheduler(output_dir)

    def _save_rng_state(self, output_dir):
        self.tell(SAVING[3])
        super()._save_rng_state(output_dir)
        self.tell(SAVING[4])


def reward(completions, **columns):
    """1 for about half of all completions: a signal for an untrained model."""
    return [float(sum(map(ord, completion)) % 2) for completion in completions]


def make_trainer(folder: Path, steps: int, board: Board) -> WatchedTrainer:
    """Two phases, prompts carried into the second one, groups without signal masked, windows of two steps."""
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )
    torch.manual_seed(0)
    width = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokens = {"vocab_size": len(vocabulary), "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    model = Qwen2ForCausalLM(Qwen2Config(**width, **tokens, num_key_value_heads=1, max_position_embeddings=64))
    rng = random.Random(0)
    rows = [{"id": f"p{i}", "prompt": " ".join(rng.choices(WORDS, k=5 if i < 20 else 12))} for i in range(40)]
    half = steps // 2
    args = PhasedGRPOConfig(
        output_dir=str(folder),
        phases=[Phase(max_prompt_length=8, max_steps=half), Phase(max_prompt_length=16, max_steps=steps - half)],
        retrospective="weighted",
        dynamic_sampling="mask",
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        steps_per_generation=4,
        num_generations=2,
        max_completion_length=4,
        learning_rate=1e-3,
        save_steps=SAVE_EVERY,
        save_total_limit=2,
        logging_steps=10,
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = WatchedTrainer(model, reward, args, Dataset.from_list(rows), processing_class=tokenizer)
    trainer.board = board
    return trainer


def life(folder: Path, steps: int, board: Board) -> None:
    """What a child does: goes on from the newest complete checkpoint, and writes the weights at the end."""
    board.write(-1, "starting")
    last = newest_complete_checkpoint(folder)
    trainer = make_trainer(folder, steps, board)
    trainer.train(resume_from_checkpoint=True if last else None)
    torch.save(trainer.model.state_dict(), folder / "final.pt")


def fork(folder: Path, steps: int, board: Board) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            # What the libraries say goes to a file, so that the log of kills can be read.
            log = os.open(folder / "children.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            life(folder, steps, board)
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    return child


def kill_at(child: int, board: Board, step: int, moment: str | None, delay: float) -> bool:
    """Waits for the step and the moment (any), then `delay` seconds, and kills. `False` if the child ended before."""
    while True:
        now, doing = board.read()
        if now >= step and moment in (None, doing):
            break
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.0002)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def check(folder: Path) -> int:
    """Loads every checkpoint that passes for complete. Returns how many folders do not."""
    cut = 0
    for path in folder.glob("checkpoint-*"):
        if missing_part(path) is not None:
            cut += 1
            continue
        load_file(path / "model.safetensors")
        with safe_globals():
            for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
                torch.load(path / name, weights_only=True)
        for name in ("trainer_state.json", "curriculum_state.json"):
            json.loads((path / name).read_text())
    return cut


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200, help="Steps of the run, a multiple of 4. Default: 200.")
    parser.add_argument("--kills", type=int, default=25, help="Kills, every third one within a save. Default: 25.")
    parser.add_argument("--seed", type=int, default=0, help="Of the moments. Default: 0.")
    parser.add_argument("--folder", type=Path, help="Where the runs are written. A temporary one by default.")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        return soak(args.folder or Path(temporary), args.steps, args.kills, args.seed)


def soak(folder: Path, steps: int, kills: int, seed: int) -> int:
    """Both runs and what is to be said of them; 0 if they are equal and nothing was left behind."""
    board, rng = Board(), random.Random(seed)
    for name in ("whole", "killed"):
        (folder / name).mkdir(parents=True)
    whole, killed = folder / "whole", folder / "killed"
    began = time.perf_counter()
    os.waitpid(fork(whole, steps, board), 0)
    if not (whole / "final.pt").exists():
        print((whole / "children.log").read_text()[-3000:])
        return 1
    print(f"undisturbed: {steps} steps in {time.perf_counter() - began:.0f} s", flush=True)
    print("kill  step  doing                            started from     cut short", flush=True)
    # Where kills fall: steps in ascending order, so that the run gets on between them.
    targets = sorted(rng.sample(range(steps - SAVE_EVERY), kills) if kills <= steps - SAVE_EVERY else [])
    done = in_saves = 0
    for number, target in enumerate(targets):
        moment = rng.choice(SAVING) if number % 3 == 2 else None
        last = newest_complete_checkpoint(killed, lambda line: None)
        resumed = Path(last).name if last else "the start"
        delay = rng.uniform(0, 0.002) if moment else rng.uniform(0, 0.25)
        if not kill_at(fork(killed, steps, board), board, target, moment, delay):
            print((killed / "children.log").read_text()[-3000:])
            print(f"the run ended before kill {number + 1}")
            return 1
        step, doing = board.read()
        done, in_saves = done + 1, in_saves + (doing in SAVING)
        print(f"{done:4}  {step:4}  {doing:<32} {resumed:<16} {check(killed)}", flush=True)
    os.waitpid(fork(killed, steps, board), 0)
    if not (killed / "final.pt").exists():
        print((killed / "children.log").read_text()[-3000:])
        return 1
    cut = check(killed)
    orphans = [str(path.relative_to(killed)) for path in killed.rglob("*.tmp*")]
    expected = torch.load(whole / "final.pt", weights_only=True)
    found = torch.load(killed / "final.pt", weights_only=True)
    equal = found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    state = Path(f"checkpoint-{steps}") / "curriculum_state.json"
    same_state = json.loads((whole / state).read_text()) == json.loads((killed / state).read_text())
    print(f"{done} kills, {in_saves} of them in saves, in {time.perf_counter() - began:.0f} s")
    print(f"weights equal: {equal}; difficulties and carried prompts equal: {same_state}")
    print(f"checkpoints cut short that are left: {cut}; temporary files: {', '.join(orphans) or 'none'}")
    return 0 if equal and same_state and not cut and not orphans else 1


if __name__ == "__main__":
    raise SystemExit(main())
