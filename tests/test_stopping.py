"""SIGTERM and SIGINT end a training with a checkpoint from which it goes on exactly; handlers are put back."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest
import torch
from tiny import parity_reward


sys.path[:0] = [str(Path(__file__).parent / name) for name in ("phased_grpo", "solopo")]

import runs  # noqa: E402
import solopo_runs  # noqa: E402

from qwenlong_trl.checkpoints import newest_complete_checkpoint  # noqa: E402
from qwenlong_trl.stopping import SIGNALS, StopOnSignal  # noqa: E402


LONG_WINDOWS = {"steps_per_generation": 4, "retrospective": "weighted"}  # two steps each


def rewards_that_signal(at_step: int, *numbers: int):
    """Sends signals to its own process while the window that begins after `at_step` steps is scored."""
    numbers = list(numbers)

    def parity(completions, trainer_state, **columns):
        while trainer_state.global_step >= at_step and numbers:
            os.kill(os.getpid(), numbers.pop(0))
        return parity_reward(completions)

    return parity


def phased(folder, rewards, **settings):
    return runs.make_trainer(
        runs.make_args(folder, **({"save_strategy": "no"} | LONG_WINDOWS | settings)), rewards=rewards
    )


def handlers() -> list:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", SIGNALS)
def test_stops_at_the_end_of_the_window_and_goes_on_exactly(tmp_path, capfd, number):
    before = handlers()
    whole = phased(tmp_path / "whole", rewards_that_signal(99))
    whole.train()
    trainer = phased(tmp_path / "out", rewards_that_signal(2, number))
    with StopOnSignal() as stop:
        trainer.add_callback(stop)
        trainer.train()
    assert handlers() == before
    assert stop.stopped and stop.signal_name == number.name
    assert trainer.state.global_step == 4  # the window began after 2 steps and has two
    assert newest_complete_checkpoint(tmp_path / "out") == str(tmp_path / "out" / "checkpoint-4")
    assert f"{number.name}: saving and stopping as soon as possible" in capfd.readouterr().err
    assert stop.how_to_resume(trainer.args, "again") == (
        f"stopped by {number.name} after step 4 of 8, saved to {tmp_path / 'out' / 'checkpoint-4'}; to go on: again"
    )
    resumed = phased(tmp_path / "out", rewards_that_signal(99))
    resumed.train(resume_from_checkpoint=True)
    runs.assert_equal_runs(resumed, whole)


class Ended(BaseException):  # as KeyboardInterrupt is
    pass


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_at_once(tmp_path, number):
    def ended(*arguments):
        raise Ended

    first = signal.signal(number, ended)  # what the program does by itself
    try:
        trainer = phased(tmp_path, rewards_that_signal(2, number, number))
        with pytest.raises(Ended), StopOnSignal() as stop:
            trainer.add_callback(stop)
            trainer.train()
        assert trainer.state.global_step == 2
        assert signal.getsignal(number) is ended
    finally:
        signal.signal(number, first)


def test_torchrun_passing_on_what_came_already_is_no_second_signal(tmp_path, monkeypatch):
    rewards = rewards_that_signal(2, signal.SIGINT, signal.SIGTERM)

    def under_torchrun(completions, trainer_state, **columns):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
        return rewards(completions, trainer_state, **columns)

    trainer = phased(tmp_path, under_torchrun)
    with StopOnSignal() as stop:
        trainer.add_callback(stop)
        trainer.train()
    assert stop.stopped and stop.signal_name == "SIGINT" and trainer.state.global_step == 4


def test_a_signal_in_the_last_steps_changes_nothing(tmp_path):
    trainer = phased(tmp_path, rewards_that_signal(6, signal.SIGTERM))
    stop = StopOnSignal()
    trainer.add_callback(stop)
    trainer.train()
    assert stop.signal_name == "SIGTERM" and not stop.stopped
    assert trainer.state.global_step == 8


def test_as_a_callback_alone_and_for_a_second_run(tmp_path):
    before = handlers()
    rewards = rewards_that_signal(2, signal.SIGTERM)
    stop = StopOnSignal()
    trainer = runs.make_trainer(
        runs.make_args(tmp_path, save_strategy="no", **LONG_WINDOWS), rewards=rewards, callbacks=[stop]
    )
    trainer.train()
    assert handlers() == before and stop.stopped
    trainer.train(resume_from_checkpoint=True)  # the signal has been sent
    assert trainer.state.global_step == 8
    assert handlers() == before and not stop.stopped


def test_handlers_are_restored_after_an_error(tmp_path):
    before = handlers()

    def broken(completions, **columns):
        assert handlers() != before
        raise RuntimeError("no")

    trainer = phased(tmp_path, broken)
    with pytest.raises(RuntimeError, match="no"), StopOnSignal() as stop:
        trainer.add_callback(stop)
        trainer.train()
    assert handlers() == before


def test_no_handlers_outside_of_the_main_thread(tmp_path):
    before, seen = handlers(), []

    def looking(completions, **columns):
        seen.append(handlers())
        return parity_reward(completions)

    trainer = phased(tmp_path, looking)
    trainer.add_callback(StopOnSignal())
    thread = threading.Thread(target=trainer.train)
    thread.start()
    thread.join()
    assert trainer.state.global_step == 8
    assert seen == [before] * 4


def test_weights_alone_are_no_place_to_go_on_from(tmp_path):
    trainer = phased(tmp_path, rewards_that_signal(2, signal.SIGTERM), save_only_model=True)
    with StopOnSignal() as stop:
        trainer.add_callback(stop)
        trainer.train()
    assert "checkpoint-4 has the weights alone (save_only_model)" in stop.how_to_resume(trainer.args, "again")


def test_preferences_stop_after_the_step(tmp_path):
    whole = solopo_runs.make_trainer(solopo_runs.make_args(tmp_path / "whole"))
    whole.train()
    trainer = solopo_runs.make_trainer(solopo_runs.make_args(tmp_path / "out"))
    score = trainer._compute_loss

    def signalling(*arguments):
        if trainer.state.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return score(*arguments)

    trainer._compute_loss = signalling
    with StopOnSignal() as stop:
        trainer.add_callback(stop)
        trainer.train()
    assert stop.stopped and trainer.state.global_step == 2
    resumed = solopo_runs.make_trainer(solopo_runs.make_args(tmp_path / "resumed"))
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    expected = solopo_runs.parameters(whole)
    assert all(torch.equal(value, expected[name]) for name, value in solopo_runs.parameters(resumed).items())


def test_forked_children_outlive_ctrl_c_once_and_obey_sigterm(tmp_path):
    """A terminal sends SIGINT to all its processes; a child that is still needed must not end before its parent."""
    ends = []

    def forking(completions, trainer_state, **columns):
        if trainer_state.global_step == 0:
            for numbers in ([signal.SIGINT], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM]):
                child = os.fork()
                if child == 0:
                    try:
                        for number in numbers:
                            os.kill(os.getpid(), number)
                    except KeyboardInterrupt:
                        os._exit(130)
                    os._exit(0)
                ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return parity_reward(completions)

    trainer = phased(tmp_path, forking)
    with StopOnSignal() as stop:
        trainer.add_callback(stop)
        trainer.train()
    assert ends == [0, 130, -signal.SIGTERM]
    assert stop.signal_name is None and trainer.state.global_step == 8
