"""Hydra's sweep grammar: every form works or is refused by name."""

import pytest

from harness.run import grammar
from harness.run.grammar import MAX_VALUES
from harness.run.overrides import parse_each
from harness.runfolder.config import ConfigError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("batch=16,32", ["16", "32"]),
        ("batch=choice(16,32)", ["16", "32"]),
        ("seed=range(3)", ["0", "1", "2"]),
        ("lr=range(0.1,0.3,0.1)", ["0.1", "0.2"]),
        ("width=[8,4],16", ["[8,4]", "16"]),
        ("width=choice([8,4],16)", ["[8,4]", "16"]),
        ("patience=null,3", ["null", "3"]),
        ("patience=choice(null,3)", ["null", "3"]),
        ("patience=tag(a,choice(null,3))", ["null", "3"]),
        ("tracking.experiment='2024',b", ["'2024'", "b"]),
        ("tracking.experiment=choice('2024',b)", ["'2024'", "b"]),
        ("seed=sort(3,1,reverse=true)", ["3", "1"]),
        ("seed=sort(choice(2,1))", ["1", "2"]),
        ("lr=float(choice(1,2))", ["1.0", "2.0"]),
        ("seed=int(1.5,2)", ["1", "2"]),
        ("normalization=glob(*,exclude=none)", ["minmax", "standard", "unit"]),
        ("normalization=glob(m*)", ["minmax"]),
    ],
)
def test_the_values_of_a_sweep_are_as_typed(text: str, values: list[str]) -> None:
    (override,) = parse_each([text])
    assert list(grammar.sweep_values(override)) == values


@pytest.mark.parametrize("values", ["null,3", "choice(null,3)", "range(2)"])
def test_shuffled_values_are_the_same_values(values: str) -> None:
    plain, shuffled = parse_each([f"patience={values}", f"patience=shuffle({values})"])
    assert sorted(grammar.sweep_values(shuffled)) == sorted(grammar.sweep_values(plain))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("lr=interval(0.1,1)", "an interval is for a search; add hydra/sweeper=optuna"),
        ("batch=glob(*)", "glob() selects options of a group, which batch is not"),
        ("normalization=glob(x*)", "matches no option; there are minmax, none"),
        ("seed=range(0,4,0)", "expected range(START, STOP, STEP), finite, with a step not 0"),
        ("lr=range(0.1,0.4,0)", "with a step not 0"),
        ("lr=range(0,inf)", "expected range(START, STOP, STEP), finite"),
        ("lr=range(nan,1)", "expected range(START, STOP, STEP), finite"),
        ("seed=shuffle(range(1000000000))", f"expected at most {MAX_VALUES:,} values"),
        ("patience=int(null,3)", "it cannot take these values"),
        ("patience=sort(null,3)", "sort(null,3)"),
        ("patience=choice(choice(1,2))", "nesting choices is not supported"),
        ("patience=choice()", "empty choice is not legal"),
        ("seed=str(range(3))", "Range can only be cast to int or float"),
        ("lr=extend_list(1)", "Unknown function 'extend_list'"),
    ],
)
def test_what_has_no_values_is_one_line(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        list(grammar.sweep_values(next(parse_each([text]))))
    assert str(error.value).startswith(f"{text}: ")
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_an_interval_is_no_range() -> None:
    (interval, numbers) = parse_each(["lr=interval(0.1,1)", "seed=range(3)"])
    assert grammar.is_interval(interval)
    assert not grammar.is_range(interval)
    assert grammar.is_range(numbers)
    assert not grammar.is_interval(numbers)


def test_tags() -> None:
    tagged, plain = parse_each(["lr=tag(log, interval(0.1,1))", "lr=0.1"])
    assert (grammar.tags(tagged), grammar.tags(plain)) == ({"log"}, set())


@pytest.mark.parametrize("again", ["lr=0.3", "lr=0.3,0.4", "++lr=0.3"])
def test_a_swept_key_is_not_given_again(again: str) -> None:
    grammar.check_swept_once(list(parse_each(["lr=0.1", "lr=0.2", "batch=1", "batch=1,2"])))
    with pytest.raises(ConfigError, match="give a swept key once"):
        grammar.check_swept_once(list(parse_each(["lr=0.1,0.2", again])))
