"""Trials that pause: the rungs, which one goes on, and what is proposed next."""

import math
import random

import pytest

from harness.run.search.pausing import ETA, FINISHING, Course, chosen, ranked, rungs


def course(number: int, *values: float, **state: bool) -> Course:
    state = state or {"is_paused": True}
    return Course(number, {"x": number}, {}, values, **state)


@pytest.mark.parametrize(
    ("first", "epochs", "expected"),
    [
        (3, 20, (3, 8, 20)),
        (1, 20, (1, 3, 7, 20)),
        (3, 90, (3, 9, 29, 90)),
        (3, 10, (3, 10)),
        (3, 4, (3, 4)),
        (3, 2, (2,)),
        (0, 1, (1,)),
    ],
)
def test_rungs_are_even_and_end_with_the_last_epoch(
    first: int, epochs: int, expected: tuple[int, ...]
) -> None:
    assert rungs(first, epochs) == expected


def test_the_best_third_of_a_rung_goes_on() -> None:
    found = [course(n, 0.9, 0.9, (5 + n) / 10) for n in range(5)]
    assert chosen(found[:2], (3, 9), 99, is_full=False) is None, "none of two is the best third"
    best, rung = chosen(found[:3], (3, 9), 99, is_full=False) or (None, 0)
    assert (best, rung) == (found[0], 9)
    trained = course(0, *found[0].values, *[0.4] * 6, is_whole=True)
    assert chosen([trained, *found[1:]], (3, 9), 99, is_full=False) is None, "it had its turn"
    six = [trained, *found[1:], course(5, 0.9, 0.9, 0.45)]
    best, rung = chosen(six, (3, 9), 99, is_full=False) or (None, 0)
    assert best is six[-1]


def test_a_setting_that_is_trained_now_is_not_taken_again() -> None:
    found = [course(0, 0.1, is_paused=False), course(1, 0.2), course(2, 0.3)]
    assert chosen(found, (1, 3), 99, is_full=False) is None


def test_the_highest_rung_comes_first() -> None:
    at = (1, 2, 4)
    found = [course(n, 0.1 + n / 100) for n in range(9)]
    found[0] = course(0, 0.1, 0.1)
    found[1] = course(1, 0.11, 0.05)
    found[2] = course(2, 0.12, 0.2)
    best, rung = chosen(found, at, 99, is_full=False) or (None, 0)
    assert (best, rung) == (found[1], 4)


def test_when_no_setting_may_start_the_best_one_still_gets_to_the_end() -> None:
    found = [course(0, 0.2), course(1, 0.1)]
    best, rung = chosen(found, (1, 3, 9), 99, is_full=True) or (None, 0)
    assert (best, rung) == (found[1], 3)
    found[1] = course(1, 0.1, 0.1, 0.1)
    best, rung = chosen(found, (1, 3, 9), 99, is_full=True) or (None, 0)
    assert (best, rung) == (found[1], 9)
    found[1] = course(1, *[0.1] * 9, is_whole=True)
    assert chosen(found, (1, 3, 9), 99, is_full=True) is None


def test_one_that_failed_is_the_worst_of_its_rung() -> None:
    failed = Course(0, {}, {}, (), has_failed=True)
    assert failed.at(3) == math.inf
    found = [failed, course(1, 0.3), course(2, 0.2)]
    best, _ = chosen(found, (1, 3), 99, is_full=False) or (None, 0)
    assert best is found[2], "one of three, of which one failed"
    assert ranked(found, (1, 3)) == [found[2], found[1], failed]


def test_one_that_ended_by_itself_has_reached_every_rung() -> None:
    early = course(0, 0.1, 0.1, is_whole=True)
    assert early.has_reached(9)
    assert ranked([course(1, *[0.2] * 5), early], (1, 3, 9))[0] is early


def test_settings_are_ranked_by_rung_then_value() -> None:
    found = [course(0, 0.1), course(1, 0.3, 0.3, 0.25), course(2, 0.3, 0.3, 0.2), course(3)]
    assert [each.number for each in ranked(found, (1, 3))] == [2, 1, 0]


def test_a_search_ends_and_finishes_as_much_as_it_should() -> None:
    """A whole search with values from nowhere, of one slot."""
    chance, at, count = random.Random(1), (1, 3, 9), 90
    found: list[Course] = []
    while len(found) < count or chosen(found, at, 5, is_full=True):
        is_full = len(found) == count
        if is_full:
            assert _finishing(found, at) > 0.9 * FINISHING * sum(len(e.values) for e in found)
        old, rung = chosen(found, at, 5, is_full=is_full) or (course(len(found)), at[0])
        more = [chance.random() for _ in range(rung - len(old.values))]
        is_over = rung == at[-1]
        new = course(old.number, *old.values, *more, is_paused=not is_over, is_whole=is_over)
        found[old.number : old.number + 1] = [new]
    reached = [sum(each.has_reached(rung) for each in found) for rung in at]
    assert reached[0] == count
    assert reached[1] >= count // ETA
    assert reached[2] >= reached[1] // ETA


def _finishing(found: list[Course], at: tuple[int, ...]) -> int:
    return sum(max(0, len(each.values) - at[-2]) for each in found)


def test_a_setting_goes_on_out_of_turn_where_too_few_are_finished() -> None:
    """Half of the epochs or so are for finishing, of the best setting that pauses."""
    found = [course(n, 0.5 + n / 10) for n in range(2)]
    assert chosen(found, (1, 3), 3, is_full=False) is None, "there are too few settings yet"
    assert chosen(found, (1, 3), 2, is_full=False) == (found[0], 3)
    found[0] = course(0, 0.5, 0.4, 0.3, is_whole=True)
    assert chosen(found, (1, 3), 2, is_full=False) is None
    assert chosen(found, (3,), 2, is_full=False) is None, "nothing pauses with one rung"
