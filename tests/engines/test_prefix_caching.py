"""vLLM's prefix cache, counted by the engine itself, for groups of equal prompts."""

import functools

import pytest
from tiny import parity_reward, tiny_prompts, tiny_tokenizer
from trl import GRPOConfig, GRPOTrainer

from qwenlong_trl.engines import prepare_engine
from qwenlong_trl.generation import Sampling, VLLMSampler


pytestmark = pytest.mark.vllm

LENGTH, GROUP, GROUPS = 300, 8, 3


def counts(llm) -> tuple[int, int]:
    """
    Tokens looked up in the prefix cache of an engine, and tokens found. The counts of a process are those of the
    engine that started last, so each test has an engine of its own.
    """
    values = {metric.name: metric.value for metric in llm.get_metrics() if hasattr(metric, "value")}
    return values["vllm:prefix_cache_queries"], values["vllm:prefix_cache_hits"]


def expected(llm) -> tuple[int, int]:
    """A group's first prompt is read; the others find its whole blocks."""
    block = llm.llm_engine.vllm_config.cache_config.block_size
    return GROUPS * GROUP * LENGTH, GROUPS * (GROUP - 1) * (LENGTH // block) * block


def trainer_of(folder, model, **settings) -> GRPOTrainer:
    args = GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=GROUP * GROUPS,
        num_generations=GROUP,
        max_completion_length=4,
        max_steps=1,
        save_strategy="no",
        use_vllm=True,
        vllm_mode="colocate",
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
        **settings,
    )
    data = tiny_prompts([LENGTH] * GROUPS)
    trainer = GRPOTrainer(model, parity_reward, args, data, processing_class=tiny_tokenizer())
    prepare_engine(trainer)
    return trainer


def test_groups_of_a_trainer(engines, engine_model, tmp_path, transformers_log):
    trainer = trainer_of(tmp_path, engine_model)
    llm = trainer.vllm_generation.llm
    assert counts(llm) == (0, 0)
    trainer.train()
    assert counts(llm) == expected(llm)
    queries, hits = counts(llm)
    assert hits / queries > 0.7  # 7/8 of the tokens in whole blocks
    assert "prefix caching" not in transformers_log.text


def test_samples_of_a_sampler(engines, engine_model):
    sampler = VLLMSampler(engine_model, seed=1)
    assert counts(sampler.llm) == (0, 0)
    prompts = [row["prompt"] for row in tiny_prompts([LENGTH] * GROUPS, seed=1)]
    list(sampler.sample(prompts, ["a", "b", "c"], Sampling(num_samples=GROUP, max_tokens=4)))
    assert counts(sampler.llm) == expected(sampler.llm)


def test_without_it_there_is_a_warning(engines, start_engine, engine_model, tmp_path, monkeypatch, transformers_log):
    """For an engine that has none though nobody asked the sampler for that."""
    monkeypatch.setattr(
        "trl.generation.vllm_generation.LLM", functools.partial(start_engine, enable_prefix_caching=False)
    )
    trainer = trainer_of(tmp_path, engine_model)
    assert transformers_log.text.count("vLLM runs without prefix caching") == 1
    llm = trainer.vllm_generation.llm
    trainer.train()
    assert counts(llm)[1] == 0

    VLLMSampler(engine_model, enable_prefix_caching=False)
    assert transformers_log.text.count("vLLM runs without prefix caching") == 1
    monkeypatch.setattr("vllm.LLM", functools.partial(start_engine, enable_prefix_caching=False))
    VLLMSampler(engine_model)
    assert transformers_log.text.count("vLLM runs without prefix caching") == 2
