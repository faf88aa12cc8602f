"""The one optimisation loop: best state, rescue, convergence, cancel, previews."""

from __future__ import annotations

import math

import pytest
from nextgenface.errors import Cancelled
from nextgenface.events import CancelWhen, NullListener
from nextgenface.fitting.loop import Diverged, run_steps


class Recorder(NullListener):
    """Keeps progress and warnings."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int, float]] = []
        self.warnings: list[str] = []

    def progress(self, stage: str, step: int, total: int, loss: float) -> None:
        self.steps.append((stage, step, total, loss))

    def warning(self, text: str) -> None:
        self.warnings.append(text)


class Descent:
    """A state of one number, and losses that are given."""

    def __init__(self, losses: list[float]) -> None:
        self.given = losses
        self.state = 0
        self.restored: list[int] = []

    def step(self, i: int) -> float:
        self.state += 1
        return self.given[i]

    def snapshot(self) -> int:
        return self.state

    def restore(self, state: int) -> None:
        self.restored.append(state)
        self.state = state


def test_the_best_state_is_kept_not_the_last() -> None:
    run = Descent([5.0, 3.0, 1.0, 4.0, 2.0])
    recorder = Recorder()
    outcome = run_steps("pose", 5, run.step, run.snapshot, recorder)
    assert outcome.best == 3 and outcome.losses == run.given and not outcome.converged
    assert recorder.steps == [("pose", i + 1, 5, loss) for i, loss in enumerate(run.given)]
    assert outcome.seconds >= 0


def test_no_steps_leave_the_start() -> None:
    outcome = run_steps("pose", 0, lambda _: 1.0, lambda: "start", NullListener())
    assert outcome.best == "start" and outcome.losses == [] and not outcome.converged


def test_losses_before_settling_do_not_count_for_the_best() -> None:
    run = Descent([0.1, 0.2, 5.0, 4.0, 4.5])
    assert run_steps("pose", 5, run.step, run.snapshot, NullListener(), settle=2).best == 4


def test_one_bad_loss_goes_back_to_the_best_and_says_so() -> None:
    run = Descent([3.0, 1.0, 2.0, math.nan, 0.5, 0.4])
    recorder = Recorder()
    outcome = run_steps("textures", 6, run.step, run.snapshot, recorder, restore=run.restore)
    assert run.restored == [2]
    assert outcome.losses == [3.0, 1.0, 2.0, 0.5, 0.4]
    assert len(recorder.warnings) == 1 and "textures" in recorder.warnings[0]
    assert outcome.best == run.state


@pytest.mark.parametrize("losses", [[1.0, math.nan, 1.0, math.inf], [math.nan, -math.inf]])
def test_a_second_bad_loss_is_an_error_for_people(losses: list[float]) -> None:
    run = Descent(losses)
    with pytest.raises(Diverged, match="maxResolution"):
        run_steps("textures", len(losses), run.step, run.snapshot, NullListener(), restore=run.restore)
    with pytest.raises(Diverged, match="photometric"):  # nothing to go back to: at once
        run_steps("photometric", 1, lambda _: math.nan, lambda: 0, NullListener())


def test_it_stops_when_it_has_converged_and_not_before() -> None:
    falling = run_steps("pose", 60, lambda i: 0.9**i, lambda: 0, NullListener(), patience=4)
    assert not falling.converged and len(falling.losses) == 60
    levelled = run_steps("pose", 200, lambda i: 1.0 + 0.5**i, lambda: 0, NullListener(), patience=4)
    assert levelled.converged and 8 < len(levelled.losses) < 40
    patient = run_steps("pose", 50, lambda _: 1.0, lambda: 0, NullListener())
    assert len(patient.losses) == 50  # patience 0 never stops early
    settled = run_steps("pose", 50, lambda _: 1.0, lambda: 0, NullListener(), patience=3, settle=20)
    assert 20 < len(settled.losses) < 50


def test_cancel_stops_between_steps() -> None:
    done: list[int] = []

    def step(i: int) -> float:
        done.append(i)
        return 1.0

    with pytest.raises(Cancelled, match="pose"):
        run_steps("pose", 100, step, lambda: 0, CancelWhen(lambda: len(done) == 3))
    assert done == [0, 1, 2]


def test_previews_come_at_their_frequency() -> None:
    def shown(every: int) -> list[int]:
        steps: list[int] = []
        run_steps(
            "pose", 7, lambda _: 1.0, lambda: 0, NullListener(), preview=steps.append, preview_every=every
        )
        return steps

    assert shown(3) == [0, 3, 6]
    assert shown(0) == []


def test_checkpoints_are_asked_for_in_time_and_before_a_stop() -> None:
    kept: list[int] = []
    done: list[int] = []

    def step(i: int) -> float:
        done.append(i)
        return 1.0

    stop = CancelWhen(lambda: len(done) == 3)
    with pytest.raises(Cancelled):
        run_steps("mesh", 10, step, lambda: 0, stop, first=5, total=15, save=kept.append)
    assert kept == [8]
    run_steps("mesh", 2, step, lambda: 0, NullListener(), first=8, save=kept.append, save_seconds=0.0)
    assert kept == [8, 9, 10]
