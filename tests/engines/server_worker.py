"""One of two processes that roll out with a server: `server_worker.py ADDRESS MODEL FOLDER`."""

import json
import os
import sys
from pathlib import Path


sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "phased_grpo")]

from processes import leave  # noqa: E402
from runs import make_args  # noqa: E402
from tiny import parity_reward, tiny_prompts, tiny_tokenizer  # noqa: E402
from trl.generation import vllm_generation  # noqa: E402

from qwenlong_trl import Phase, PhasedGRPOTrainer  # noqa: E402


said = {"edge": None, "sent": 0}


class Client(vllm_generation.VLLMClient):
    """TRL's client, but for the two methods that end in NCCL."""

    def init_communicator(self, device=0):
        try:
            super().init_communicator(device)
        except NotImplementedError as error:
            said["edge"] = str(error)

    def update_named_params(self, metadata, named_params):
        for (name, dtype, shape), (own, weight) in zip(metadata, named_params, strict=True):
            assert (name, dtype, shape) == (own, str(weight.dtype).removeprefix("torch."), list(weight.shape))
        said["sent"] += 1


def make(address: str, model: str, folder: str, longest: int, evaluated: int) -> PhasedGRPOTrainer:
    args = make_args(
        folder,
        phases=[Phase(8, 2, max_completion_length=4), Phase(16, 2, max_completion_length=longest)],
        num_generations=4,
        gradient_accumulation_steps=1,
        save_strategy="no",
        use_vllm=True,
        vllm_mode="server",
        vllm_server_base_url=address,
        vllm_server_timeout=60,
    )
    return PhasedGRPOTrainer(
        model,
        parity_reward,
        args,
        tiny_prompts([5] * 20 + [12] * 20),
        eval_dataset=tiny_prompts([evaluated]),
        processing_class=tiny_tokenizer(),
    )


def refusal(*arguments) -> str:
    try:
        make(*arguments)
    except ValueError as error:
        return str(error)
    raise AssertionError("it was not refused")


def main(address: str, model: str, folder: str) -> None:
    vllm_generation.VLLMClient = Client
    said["refused"] = refusal(address, model, folder, 2040, 7)
    said["refused_evaluation"] = refusal(address, model, folder, 12, 2040)
    trainer = make(address, model, folder, 12, 7)
    trainer.train()
    said["steps"] = trainer.state.global_step
    (Path(folder) / f"{os.environ['RANK']}.json").write_text(json.dumps(said))
    leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
