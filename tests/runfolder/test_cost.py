"""What a setting costs beside its objective, and the Pareto front."""

import itertools
import math

import numpy as np
import pytest

from harness.runfolder.cost import Cost, front, spelled


@pytest.mark.parametrize("text", ["parameters", "time/epoch_s", "val/accuracy:max", "a.b:max"])
def test_its_text_is_as_typed(text: str) -> None:
    cost = Cost.parse(text)
    assert str(cost) == text
    assert cost.is_max == text.endswith(":max")


def test_lower_values_are_better_as_without_a_direction() -> None:
    assert Cost.parse("time/epoch_s:min") == Cost.parse("time/epoch_s")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a metric such as parameters or time/epoch_s"),
        ("val/loss:mim", "or NAME:max"),
        ("two words", "expected a metric"),
        ("test/error", "the test set is read once.*expected val/error"),
    ],
)
def test_what_is_no_cost(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Cost.parse(text)


def test_a_cost_as_typed_needs_a_direction_where_its_name_says_the_contrary() -> None:
    with pytest.raises(ValueError, match=r"^--cost val/f1: .*; type --cost val/f1:max, or val/f1:"):
        Cost.typed("val/f1", option="--cost ")
    assert not Cost.typed("val/f1:min").is_max
    assert not Cost.parse("val/f1").is_max, "as a sweep's plan has it"


def test_what_a_run_costs() -> None:
    final = {"model/parameters": 100.0, "val/loss": 9.0}
    curves = {"val/loss": np.array([3.0, 2.0, 4.0]), "time/epoch_s": np.array([1.0, 2.0, 6.0])}

    def of(text: str, epoch: int | None = 2) -> float:
        return Cost.parse(text).of(final, curves, epoch)

    assert of("parameters") == of("model/parameters") == 100
    assert of("val/loss") == 2, "at the judged epoch"
    assert of("time/epoch_s") == 3, "the mean"
    assert math.isnan(of("machine/cpu_s"))
    assert math.isnan(of("val/error"))
    assert math.isnan(of("val/loss", None))


def test_the_front_is_what_nothing_beats() -> None:
    points = [(1.0, 5.0), (2.0, 4.0), (2.0, 5.0), (3.0, 3.0), (3.0, 3.0), (0.0, math.inf)]
    assert front(points) == [True, True, False, True, True, False], "equal ones are both on it"
    assert front([(2.0,), (1.0,)]) == [False, True]


def test_the_front_of_random_points_is_that_of_its_definition() -> None:
    points = [tuple(map(float, row)) for row in np.random.default_rng(1).integers(0, 5, (60, 3))]
    on_it = front(points)
    for point, is_on in zip(points, on_it, strict=True):
        beaten = any(
            all(a <= b for a, b in zip(other, point, strict=True))
            and any(a < b for a, b in zip(other, point, strict=True))
            for other in points
        )
        assert is_on is not beaten
    kept = [point for point, is_on in zip(points, on_it, strict=True) if is_on]
    for first, second in itertools.combinations(set(kept), 2):
        assert min(a - b for a, b in zip(first, second, strict=True)) < 0, "each is better in one"


def test_whole_numbers_are_displayed_whole() -> None:
    assert [spelled(each) for each in (203530.0, 0.012346, 7.0)] == ["203,530", "0.01235", "7"]
