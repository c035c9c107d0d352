"""What `qwenlong_trl.engines` uses of vLLM, and of TRL's way to it, without a promise.

One test for each; when a new version fails one, its docstring says what we need it for and what to change.
"""

import inspect

import pytest
import torch
from tiny import parity_reward, tiny_prompts, tiny_tokenizer
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer


pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def trainer(start_engine, engine_model, tmp_path_factory):
    """A stock trainer whose engine is on a CPU, with nothing of ours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trl.generation.vllm_generation.LLM", start_engine)
        args = GRPOConfig(
            output_dir=str(tmp_path_factory.mktemp("stock")),
            per_device_train_batch_size=4,
            num_generations=4,
            use_vllm=True,
            vllm_mode="colocate",
            use_cpu=True,
            bf16=False,
            report_to=[],
        )
        return GRPOTrainer(engine_model, parity_reward, args, tiny_prompts([5] * 8), processing_class=tiny_tokenizer())


@pytest.fixture
def runner(trainer):
    return trainer.vllm_generation.llm.llm_engine.model_executor.driver_worker.model_runner


@pytest.fixture
def other(trainer, engine_model):
    """A policy with other weights."""
    model = AutoModelForCausalLM.from_pretrained(engine_model)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    before, trainer.vllm_generation.model = trainer.vllm_generation.model, model
    yield model
    trainer.vllm_generation.model = before


def difference(generation) -> float:
    """Mean absolute difference between the log-probabilities of the engine and of the policy."""
    prompt = [4, 9, 16, 25]
    _, (completion,), (sampled,), _ = generation.generate([prompt], None, 1)
    ids = torch.tensor([prompt + list(completion)])
    with torch.no_grad():
        scores = generation.model(ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
    own = scores.gather(1, ids[0, len(prompt) :, None])[:, 0]
    return (own - torch.tensor([row[0] for row in sampled])).abs().mean().item()


def test_weights_cannot_be_loaded_twice_on_a_cpu(trainer, other):
    """Why `mend_weight_sync` is there.

    If this no longer fails: delete `cpu_weights.py`, its call in `prepare_engine` and its row in the table of shims,
    or set `_LAST_VERSION` to the version before this one while older ones are supported.
    """
    with pytest.raises(AttributeError, match="'Parameter' object has no attribute 'weight_loader'"):
        type(trainer.vllm_generation).sync_weights(trainer.vllm_generation)


def test_a_tied_head_stays_stale_after_vllms_reload(trainer, other, runner):
    """Why `reload_weights` packs the vocabulary's layers once more.

    If the difference is small: delete the loop. If `reload_weights` or its argument has gone: look for what vLLM's
    weight transfer calls in its worker.
    """
    named = ((name, weight.clone()) for name, weight in trainer.vllm_generation._iter_named_params())
    runner.reload_weights(weights_iterator=named)
    trainer.vllm_generation.llm.reset_prefix_cache()
    assert difference(trainer.vllm_generation) > 0.1


def test_weights_arrive_by_our_reload(trainer, other):
    """The way to the model, `_iter_named_params`, `VocabParallelEmbedding` and `process_weights_after_loading`.

    If a name changed: follow it in `cpu_weights.py`. `sync_weights` is replaced on the object, so it must be looked
    up there when weights are sent.
    """
    from qwenlong_trl.engines.cpu_weights import reload_weights

    reload_weights(trainer.vllm_generation)
    assert difference(trainer.vllm_generation) < 0.01
    assert "self.vllm_generation.sync_weights()" in inspect.getsource(GRPOTrainer._generate_single_turn)


def test_the_engine_tells_its_limit_and_its_cache(trainer, engine_model):
    """`engine_limit` and `prepare_engine` read them there.

    If a name changed: follow it in `limits.py`, `prepare.py` and `vllm_sampler.py`.
    """
    engine = trainer.vllm_generation.llm.llm_engine
    assert engine.model_config.max_model_len == trainer.model.config.max_position_embeddings == 512
    assert engine.vllm_config.cache_config.enable_prefix_caching is True
    assert trainer.vllm_generation.mode == "colocate"


def test_the_engine_takes_weights_from_a_name(trainer, engine_model):
    """The table of engines says that a model made in memory must be saved first.

    If TRL gives the weights in another way: say so in the package's docstring.
    """
    assert trainer.model.name_or_path == engine_model
    assert "model=model.name_or_path" in inspect.getsource(type(trainer.vllm_generation)._init_vllm)
