"""Measurements of a run, and the refusal of a distillation that would take too long."""

import math
import sys

import children
import pytest

from latentdd_plugin.core.errors import RunFailed, TooLong
from latentdd_plugin.core.monitor import Clock, duration


@pytest.fixture
def now(monkeypatch):
    """A clock that a test sets."""
    moment = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: moment[0])
    return moment


def walk(watch, now, seconds, total):
    """Steps of these lengths."""
    with watch as step:
        for done, length in enumerate(seconds, 1):
            now[0] += length
            step(done, total, 1.0)


def test_stages_and_steps(now):
    watch = Clock()
    now[0] += 2
    watch.lap("load_s")
    walk(watch.watch_steps(show=False), now, [9.0, 1.0, 3.0, 2.0], 4)
    watch.lap("distill_s")
    now[0] += 1
    watch.lap("load_s")
    assert watch.seconds == {"load_s": 3.0, "distill_s": 15.0}
    assert watch.step_ms() == 2000.0
    assert watch.peaks["distill_s"][0] > 1
    assert Clock().step_ms() is None


def test_a_stage_goes_on_in_another_process(now):
    first = Clock()
    now[0] += 3
    first.lap("load_s")
    walk(first.watch_steps(show=False), now, [9.0, 1.0, 3.0, 2.0], 8)
    spent = first.so_far("distill_s")
    assert (spent["seconds"], spent["step_ms"]) == (15.0, 2000.0)
    second = Clock()
    second.resume("distill_s", {**spent, "peak_rss_mb": 1e9})
    assert second.step_ms() == 2000.0
    now[0] += 4
    second.lap("distill_s")
    assert second.seconds == {"distill_s": 19.0}
    assert second.peaks["distill_s"][0] == 1e9, "the higher of both processes"


def test_a_clock_without_stages_starts_anew(now):
    first = Clock()
    now[0] += 3
    first.lap("load_s")
    now[0] += 5
    first.lap("evaluate_s")
    now[0] += 7
    second = first.without("evaluate_s")
    now[0] += 2
    second.lap("evaluate_s")
    assert second.seconds == {"load_s": 3.0, "evaluate_s": 2.0}
    assert first.seconds == {"load_s": 3.0, "evaluate_s": 5.0}


def test_a_long_distillation_is_refused_after_its_first_steps(now):
    with pytest.raises(TooLong) as raised:
        walk(Clock().watch_steps(False, 3600.0), now, [60.0, 5.0, *[2.0] * 100], 10_000)
    assert raised.value.estimate_s == pytest.approx(60 + 5 + 5 * 2 + 2 * (10_000 - 7))
    assert now[0] == 100 + 60 + 5 + 5 * 2
    assert isinstance(raised.value, RunFailed)
    assert str(raised.value) == (
        "the distillation is estimated to take 5.6 h (10,000 steps of 2.0 s), the limit is 60.0 min; allow more with "
        "--limit-hours, or choose fewer steps"
    )


def test_very_slow_steps_are_refused_after_three(now):
    with pytest.raises(TooLong) as raised:
        walk(Clock().watch_steps(False, 3600.0), now, [700.0] * 3, 20)
    assert raised.value.estimate_s == pytest.approx(20 * 700)


def test_what_is_left_counts_after_a_resume(now):
    watch = Clock()
    with watch.watch_steps(False, 100.0) as step:
        for done in range(991, 1001):
            now[0] += 2
            step(done, 1000, 1.0)
    assert len(watch.steps) == 10


def test_a_short_one_is_asked_once(now):
    walk(Clock().watch_steps(False, 1000.0), now, [*[1.0] * 20, *[300.0] * 5], 25)


def test_without_a_limit_nothing_is_refused(now):
    walk(Clock().watch_steps(False), now, [1e6] * 9, 10**9)


def test_a_step_without_a_loss_shows_none(now, capsys):
    with Clock().watch_steps(show=True) as step:
        step(1, 3, math.nan)
    assert "loss" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123, "12.3 ms"), (1.0, "1.0 s"), (119, "119.0 s"), (130, "2.2 min"), (12240, "3.4 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc is told to keep freed memory")
def test_a_stage_gives_back_what_it_has_freed():
    assert children.ended(children.start(children.heap_between_stages)) == 0
