"""The space of a search, from Hydra's sweep grammar."""

import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FixedTrial

from harness.run.grammar import sweep_values
from harness.run.search import space
from harness.run.search.space import Parameter
from harness.runfolder.config import ConfigError
from tests.run.search.conftest import settings_of


def test_every_form_of_the_grammar() -> None:
    fixed, parameters, seeds = space.split(
        settings_of("batch=16", "lr=tag(log, interval(0.01, 1))", "width=choice(128,256,512)",
         "depth=range(1,4)", "dropout=range(0,0.5,step=0.1)", "seed=range(1,4)",
         "normalization=glob(*,exclude=none)", "input_dropout=interval(0,0.3)", "epochs=3,3,5")
    )  # fmt: skip
    assert fixed == ["batch=16"]
    assert seeds == ("1", "2", "3")
    assert parameters == [
        Parameter("lr", low=0.01, high=1.0, log=True),
        Parameter("width", choices=("128", "256", "512")),
        Parameter("depth", low=1, high=3, step=1, whole=True),
        Parameter("dropout", choices=("0.0", "0.1", "0.2", "0.3", "0.4"), step=0.1),
        Parameter("normalization", choices=("minmax", "standard", "unit")),
        Parameter("input_dropout", low=0, high=0.3),
        Parameter("epochs", choices=("3", "5")),
    ]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["lr=0.1"], "there is nothing to search"),
        (["lr=0.1,0.2", "lr=0.3,0.4"], "lr=0.3,0.4: lr=0.1,0.2 is given as well; give a swept"),
        (["lr=interval(0.1,1)", "lr=0.3"], "lr=0.3: lr=interval(0.1,1) is given as well"),
        (["batch=tag(log,range(1,9))"], "batch=tag(log,range(1,9)): expected no other tag than"),
        (["lr=tag(a,interval(0.1,1))"], "lr=tag(a,interval(0.1,1)): expected no other tag than"),
        (["lr=interval(1,0.1)"], "lr=interval(1,0.1): expected two finite numbers, the lower"),
        (["lr=interval(0.1,inf)"], "lr=interval(0.1,inf): expected two finite numbers"),
        (["lr=interval(-inf,1)"], "lr=interval(-inf,1): expected two finite numbers"),
        (["lr=tag(log,interval(0, 1))"], "expected two finite numbers above 0, the lower first"),
        (["lr=range(2,1)"], "lr=range(2,1): expected at least one value"),
        (["seed=range(1,4)"], "there is nothing to search"),
        (["lr=0.1,0.2", "seed=int(interval(1,9))"], "expected a list of seeds, such as seed="),
        (["lr=0.1,0.2", "seed=range(5,1)"], "seed=range(5,1): expected at least one value"),
        (["lr=0.1,0.2", "seed=1,2", "seed=3"], "seed=3: seed=1,2 is given as well"),
        (["batch=glob(*)"], "batch=glob(*): glob() selects options of a group"),
    ],
)
def test_a_space_that_cannot_be_searched_is_one_line(texts: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        space.split(settings_of(*texts))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("parameter", "extremes"),
    [
        (Parameter("lr", low=0.01, high=1.0, log=True), ("0.01", "1.0")),
        (Parameter("seed", low=1, high=9, whole=True), ("1", "9")),
        (Parameter("width", choices=("8", "[9,8]")), ("8", "[9,8]")),
        (Parameter("lr", choices=("0.0", "0.1", "0.2"), step=0.1), ("0.0", "0.2")),
    ],
)
def test_the_extremes_are_as_typed(parameter: Parameter, extremes: tuple[str, ...]) -> None:
    assert parameter.extremes == extremes


@pytest.mark.parametrize(
    ("parameter", "value", "text", "distribution"),
    [
        (
            Parameter("lr", low=0.01, high=1.0, log=True), 0.1, "0.1",
            FloatDistribution(0.01, 1.0, log=True),
        ),
        (
            Parameter("dropout", choices=("0.0", "0.1", "0.2"), step=0.1), 1, "0.1",
            IntDistribution(0, 2),
        ),
        (Parameter("seed", low=1, high=9, whole=True), 3, "3", IntDistribution(1, 9)),
        (
            Parameter("depth", low=1, high=5, step=2, whole=True), 3, "3",
            IntDistribution(1, 5, step=2),
        ),
        (
            Parameter("width", choices=("8", "[9,8]")), "[9,8]", "[9,8]",
            CategoricalDistribution(("8", "[9,8]")),
        ),
    ],
)  # fmt: skip
def test_a_suggestion_is_a_value_as_it_would_be_typed(
    parameter: Parameter, value: object, text: str, distribution: BaseDistribution
) -> None:
    trial = FixedTrial({parameter.key: value})
    assert parameter.suggest(trial) == text
    assert trial.distributions == {parameter.key: distribution}


@pytest.mark.parametrize(
    ("value", "shown"),
    [("0.123456789", "0.1235"), ("1.2345e-05", "1.234e-05"), ("16", "16"), ("[9,8]", "[9,8]")],
)
def test_long_numbers_are_shown_short(value: str, shown: str) -> None:
    assert space.short(value) == shown


@pytest.mark.parametrize(
    "text",
    [
        "lr=range(1,0,-0.3)",
        "lr=range(0.1,1,0.15)",
        "lr=range(0,0.001,0.0001)",
        "depth=range(9,1,-3)",
    ],
)
def test_a_range_has_the_values_of_a_sweep(text: str) -> None:
    """All of them and no other, without a warning of Optuna's; also as `confirm` types them."""
    (override,) = settings_of(text)
    values = list(sweep_values(override))
    _, (parameter,), _ = space.split([override])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    found = [parameter.suggest(study.ask()) for _ in range(200)]
    assert set(found) == set(values)
    assert [parameter.typed(trial.params[parameter.key]) for trial in study.trials] == found
    assert {parameter.extremes[0], parameter.extremes[1]} == {values[0], values[-1]}


def test_a_value_of_an_earlier_version_is_typed_as_it_was() -> None:
    assert Parameter("lr", choices=("0.1", "0.2"), step=0.1).typed(0.2) == "0.2"
