"""Groups without signal leave the loss as if they had never been there, or are replaced by others."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runs import make_args, make_trainer
from trl.trainer.utils import split_tensor_dict

from qwenlong_trl.phased_grpo.dynamic_sampling import (
    fill_dead_groups,
    live_groups,
    loss_tokens,
    mask_rows,
    replace_rows,
)
from qwenlong_trl.phased_grpo.rollouts import Rollouts


LOSS_TYPES = ["grpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"]  # the config refuses "bnpo"
# Rows 0-1, 4-5 and 6-7 lie in live groups: the micro-batches of two or four rows hold different numbers of them.
LIVE = torch.tensor([1, 1, 0, 0, 1, 1, 1, 1], dtype=torch.bool)


# ---- which groups ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accuracies", "live"),
    [
        ([0, 0, 0, 1], [False, True]),
        ([1, 1, 0.5, 0.5], [False, False]),
        ([0, 1e-3, 1, math.nan], [True, False]),
        ([math.nan, math.nan, 1, 0], [False, True]),
    ],
)
def test_a_group_is_live_if_its_accuracies_differ(accuracies, live):
    assert live_groups(accuracies, 2) == live


def test_unscored_rollouts_do_not_count():
    assert live_groups([0, math.nan, 1, 0, math.nan, 0], 3) == [True, False]


# ---- masking: loss and gradient by TRL's own `_compute_loss` --------------------------------------------------------


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    trainer = make_trainer(make_args(tmp_path_factory.mktemp("run"), max_completion_length=6))
    trainer.model.train()
    return trainer


def random_window(trainer, rows: int = 8, seed: int = 0) -> dict[str, torch.Tensor]:
    """A window as TRL hands it over: prompts padded on the left, completions on the right, ratios away from 1."""
    generator = torch.Generator().manual_seed(seed)
    prompt, completion = 5, 6
    prompt_lengths = torch.randint(1, prompt + 1, (rows, 1), generator=generator)
    completion_lengths = torch.randint(1, completion + 1, (rows, 1), generator=generator)
    window = {
        "prompt_ids": torch.randint(3, 43, (rows, prompt), generator=generator),
        "prompt_mask": (torch.arange(prompt) >= prompt - prompt_lengths).long(),
        "completion_ids": torch.randint(3, 43, (rows, completion), generator=generator),
        "completion_mask": (torch.arange(completion) < completion_lengths).long(),
        "advantages": torch.randn(rows, generator=generator),
    }
    ids = torch.cat([window["prompt_ids"], window["completion_ids"]], dim=1)
    attention = torch.cat([window["prompt_mask"], window["completion_mask"]], dim=1)
    with torch.no_grad():
        log_probs, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, attention, completion)
    window["old_per_token_logps"] = log_probs + 0.2 * torch.randn(log_probs.shape, generator=generator)
    window["ref_per_token_logps"] = log_probs + 0.2 * torch.randn(log_probs.shape, generator=generator)
    window["num_items_in_batch"] = window["completion_mask"].sum()
    return window


def without_dead_rows(window: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    kept = {name: value[LIVE] if value.dim() else value for name, value in window.items()}
    return kept | {"num_items_in_batch": kept["completion_mask"].sum()}


def masked(window: dict[str, torch.Tensor], loss_type: str) -> dict[str, torch.Tensor]:
    output = mask_rows(window, LIVE, loss_type, LIVE.float().mean().item())
    return output | {"num_items_in_batch": loss_tokens(output)}


def losses_and_gradient(trainer, micro_batches: list[dict]) -> tuple[list[float], torch.Tensor]:
    """What one optimizer step sees: the loss of every micro-batch, and the gradient of their sum."""
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = len(micro_batches)
    trainer.model.zero_grad()
    losses = [trainer._compute_loss(trainer.model, batch) for batch in micro_batches]
    sum(losses).backward()
    gradient = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
    return [loss.item() for loss in losses], gradient


def assert_equal_step(one, other) -> None:
    assert sum(one[0]) == pytest.approx(sum(other[0]), rel=1e-5, abs=1e-7)
    torch.testing.assert_close(one[1], other[1], rtol=1e-4, atol=1e-6)
    assert one[1].abs().max() > 1e-4  # there is something to compare


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_a_masked_batch_equals_one_without_the_dead_rows(trainer, monkeypatch, loss_type, beta):
    monkeypatch.setattr(trainer, "loss_type", loss_type)
    monkeypatch.setattr(trainer, "beta", beta)
    window = random_window(trainer)
    expected = losses_and_gradient(trainer, [without_dead_rows(window)])
    assert_equal_step(losses_and_gradient(trainer, [masked(window, loss_type)]), expected)
    assert trainer.beta == beta


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("accumulation", [2, 4])
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_accumulated_micro_batches_equal_one_batch_without_the_dead_rows(
    trainer, monkeypatch, loss_type, accumulation, beta
):
    # Of four micro-batches one is dead as a whole.
    monkeypatch.setattr(trainer, "loss_type", loss_type)
    monkeypatch.setattr(trainer, "beta", beta)
    window = random_window(trainer)
    expected = losses_and_gradient(trainer, [without_dead_rows(window)])
    found = losses_and_gradient(trainer, split_tensor_dict(masked(window, loss_type), accumulation))
    assert_equal_step(found, expected)


@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
def test_masking_keeps_a_mask_of_tools_and_chooses_high_entropy_tokens_among_the_rest(trainer, monkeypatch, loss_type):
    monkeypatch.setattr(trainer, "loss_type", loss_type)
    monkeypatch.setattr(trainer, "top_entropy_quantile", 0.5)
    window = random_window(trainer)
    tools = torch.ones_like(window["completion_mask"])
    tools[:, 1] = 0
    window["tool_mask"] = tools
    live = without_dead_rows(window)
    expected = losses_and_gradient(trainer, [live | {"num_items_in_batch": loss_tokens(live)}])
    assert_equal_step(losses_and_gradient(trainer, [masked(window, loss_type)]), expected)


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo"])
def test_the_loss_does_not_depend_on_the_split_into_micro_batches(trainer, monkeypatch, loss_type):
    monkeypatch.setattr(trainer, "loss_type", loss_type)
    window = masked(random_window(trainer), loss_type)
    whole = losses_and_gradient(trainer, [window])
    for accumulation in (2, 4, 8):
        assert_equal_step(losses_and_gradient(trainer, split_tensor_dict(window, accumulation)), whole)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_the_loss_does_not_depend_on_padding(trainer, monkeypatch, loss_type):
    monkeypatch.setattr(trainer, "loss_type", loss_type)
    window = masked(random_window(trainer), loss_type)
    wider = dict(window)
    for name, value in window.items():
        if value.dim() == 2:
            sides = (3, 0) if name.startswith("prompt") else (0, 4)
            wider[name] = torch.nn.functional.pad(value, sides, value=1 if name == "tool_mask" else 0)
    assert_equal_step(losses_and_gradient(trainer, [wider]), losses_and_gradient(trainer, [window]))


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_a_window_without_any_signal_has_no_gradient(trainer, monkeypatch, loss_type):
    monkeypatch.setattr(trainer, "loss_type", loss_type)
    window = random_window(trainer)
    output = mask_rows(window, torch.zeros(8, dtype=torch.bool), loss_type, 0.0)
    output["num_items_in_batch"] = loss_tokens(output)
    losses, gradient = losses_and_gradient(trainer, [output])
    assert losses == [0.0]
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_masking_leaves_its_input_and_the_attention_mask_alone(trainer):
    window = random_window(trainer)
    before = {name: value.clone() for name, value in window.items()}
    output = masked(window, "grpo")
    assert all(torch.equal(window[name], value) for name, value in before.items())
    assert torch.equal(output["completion_mask"], window["completion_mask"])
    assert loss_tokens(output) == window["completion_mask"][LIVE].sum()


# ---- replacing ------------------------------------------------------------------------------------------------------


def padded(rows: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    """Rollouts from lists of prompt and completion tokens; a log-prob is the negative token."""
    prompt, completion = (max(len(row[i]) for row in rows) for i in (0, 1))
    columns = {name: [] for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "logps")}
    for p, c in rows:
        columns["prompt_ids"].append([0] * (prompt - len(p)) + p)
        columns["prompt_mask"].append([0] * (prompt - len(p)) + [1] * len(p))
        columns["completion_ids"].append(c + [0] * (completion - len(c)))
        columns["completion_mask"].append([1] * len(c) + [0] * (completion - len(c)))
        columns["logps"].append([-token for token in c] + [0] * (completion - len(c)))
    tensors = {name: torch.tensor(values) for name, values in columns.items()}
    tensors |= {"advantages": torch.tensor([float(sum(c)) for _, c in rows]), "total": torch.tensor(7)}
    return tensors


def unpadded(output: dict[str, torch.Tensor]) -> list[tuple[list[int], list[int]]]:
    def tokens_of(part: str) -> list[list[int]]:
        pairs = zip(output[f"{part}_ids"], output[f"{part}_mask"].bool(), strict=True)
        return [ids[mask].tolist() for ids, mask in pairs]

    return list(zip(tokens_of("prompt"), tokens_of("completion"), strict=True))


tokens = st.lists(st.integers(1, 99), min_size=1, max_size=6)
some_rows = st.lists(st.tuples(tokens, tokens), min_size=1, max_size=5)


@given(some_rows, some_rows, st.data())
def test_rows_are_replaced_and_padded(old, new, data):
    targets = data.draw(st.lists(st.integers(0, len(old) - 1), unique=True, max_size=len(new)))
    sources = data.draw(st.permutations(range(len(new))))[: len(targets)]
    before = padded(old)
    merged = replace_rows(before, padded(new), targets, sources, pad_token_id=0)

    expected = list(old)
    for target, source in zip(targets, sources, strict=True):
        expected[target] = new[source]
    assert unpadded(merged) == expected
    for i, (_, completion) in enumerate(expected):
        assert merged["logps"][i, : len(completion)].tolist() == [-token for token in completion]
        assert merged["advantages"][i] == sum(completion)
    assert merged["total"] == 7
    assert unpadded(before) == old  # the input is not changed in place


def test_padding_is_the_pad_token_and_a_tool_mask_is_padded_with_ones():
    old = {"prompt_ids": torch.tensor([[4]]), "tool_mask": torch.tensor([[0]]), "ref": torch.tensor([[0.5]])}
    new = {
        "prompt_ids": torch.tensor([[5, 6, 7]]),
        "tool_mask": torch.tensor([[0, 0]]),
        "ref": torch.tensor([[0.1, 0.2]]),
    }
    merged = replace_rows(old, new, [], [], pad_token_id=9)
    assert merged["prompt_ids"].tolist() == [[9, 9, 4]]
    assert merged["tool_mask"].tolist() == [[0, 1]]
    assert merged["ref"].tolist() == [[0.5, 0.0]]


def test_rollouts_that_hold_different_things_are_refused():
    with pytest.raises(ValueError, match=r"differ in what they hold: \['logps'\]"):
        replace_rows({"prompt_ids": torch.zeros(1, 1)}, {"prompt_ids": torch.zeros(1, 1), "logps": None}, [0], [0], 0)


class Prompts:
    """Stands for the generation of fresh prompts on two processes: groups of two rows with given accuracies."""

    def __init__(self, rounds: list[list[float]]):
        self.rounds, self.calls = rounds, []

    def __call__(self, draw: int, count: int) -> Rollouts:
        self.calls.append((draw, count))
        accuracies = self.rounds[draw] if draw < len(self.rounds) else [0.0, 0.0] * count
        rows = [1000 * (draw + 1) + i // 2 for i in range(2 * count)]
        return Rollouts(rows, [0.0] * 2 * count, accuracies, [False] * 2 * count)


def fill_on_two_ranks(accuracies: list[float], rounds: list[list[float]], max_rounds: int):
    """Runs both processes one after the other; returns what they agree on, and each one's rows."""
    here, ends = [], []
    for rank in (0, 1):
        rows = [i // 2 for i in range(len(accuracies))]
        rollouts = Rollouts(rows, [0.0] * len(rows), list(accuracies), [False] * len(rows))
        share = len(rows) // 2
        fresh = Prompts(rounds)

        def roll_out(draw, count, fresh=fresh, rank=rank):
            found = fresh(draw, count)
            own = found.rows[rank * count : (rank + 1) * count]  # count groups of 2 rows, half of them here
            return padded([([row], [row]) for row in own]), found

        own = rows[rank * share : (rank + 1) * share]
        output = padded([([row + 1], [row + 1]) for row in own])
        output, used = fill_dead_groups(output, rollouts, roll_out, 2, 2, rank, max_rounds, pad_token_id=0)
        ends.append((rollouts, used, fresh.calls))
        here += [prompt[0] for prompt, _ in unpadded(output)]
    assert ends[0] == ends[1]  # every process made the same calls and knows the same
    return *ends[0], here


def test_live_groups_take_the_place_of_dead_ones_on_the_same_process():
    # Two groups a process. Process 0 lacks one, process 1 two; both ask for two.
    accuracies = [0.0, 0.0, 0.0, 1.0] + [1.0, 1.0, 0.0, 0.0]
    first = [0.0, 0.0, 1.0, 0.0] + [0.0, 1.0, 1.0, 1.0]
    second = [0.0, 1.0] + [0.0, 1.0]
    rollouts, used, calls, here = fill_on_two_ranks(accuracies, [first, second], max_rounds=5)
    assert used == 2
    assert calls == [(0, 4), (1, 2)]
    assert rollouts.rows == [1001, 1001, 1, 1, 1002, 1002, 2001, 2001]
    assert here == [1001, 1001, 2, 2, 1002, 1002, 2001, 2001]
    assert live_groups(rollouts.accuracies, 2) == [True] * 4


def test_rounds_are_bounded_and_what_is_left_is_known():
    rollouts, used, calls, here = fill_on_two_ranks([0.0] * 8, [], max_rounds=3)
    assert used == 3
    assert calls == [(0, 4), (1, 4), (2, 4)]
    assert live_groups(rollouts.accuracies, 2) == [False] * 4
    assert here == [1, 1, 2, 2, 3, 3, 4, 4]


def test_nothing_is_generated_where_every_group_is_live():
    _, used, calls, _ = fill_on_two_ranks([0.0, 1.0] * 4, [], max_rounds=3)
    assert (used, calls) == (0, [])
