"""Schedules at their landmarks, with and without warm-up."""

import itertools
import math

import pytest

from harness.nn.schedules import SCHEDULES, with_warmup

STEP = SCHEDULES["step"](10, every=3, gamma=0.5)
COSINE = SCHEDULES["cosine"](10)
ONECYCLE = SCHEDULES["onecycle"](10, rise=0.2, start=10, end=1000)


@pytest.mark.parametrize(
    ("schedule", "landmarks"),
    [
        (SCHEDULES["constant"](10), {0: 1, 4.5: 1, 10: 1}),
        (STEP, {0: 1, 2.999: 1, 3: 0.5, 5.9: 0.5, 6: 0.25, 9: 0.125}),
        (COSINE, {0: 1, 2.5: (1 + math.sqrt(0.5)) / 2, 5: 0.5, 10: 0, 12: 0}),
        (ONECYCLE, {0: 0.1, 1: 0.55, 2: 1, 6: (1 + 0.001) / 2, 10: 0.001, 12: 0.001}),
    ],
    ids=SCHEDULES,
)
def test_landmarks(schedule, landmarks: dict[float, float]) -> None:
    for time, factor in landmarks.items():
        assert schedule(time) == pytest.approx(factor, abs=1e-12), time


def test_one_cycle_rises_then_falls_without_a_jump() -> None:
    values = [ONECYCLE(time / 100) for time in range(1001)]
    peak = values.index(max(values))
    assert peak == 200
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert max(abs(b - a) for a, b in itertools.pairwise(values)) < 0.01


@pytest.mark.parametrize("schedule", [SCHEDULES["constant"](10), STEP, COSINE, ONECYCLE])
def test_warmup_is_a_line_from_zero(schedule) -> None:
    warmed = with_warmup(schedule, 2)
    for time, share in {0: 0, 0.5: 0.25, 1: 0.5, 1.999: 0.9995, 2: 1, 7: 1}.items():
        assert warmed(time) == pytest.approx(share * schedule(time), rel=1e-12), time
    assert [with_warmup(schedule, 0)(time) for time in (0, 3)] == [schedule(0), schedule(3)]
