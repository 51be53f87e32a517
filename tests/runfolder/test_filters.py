"""Filters in MLflow's language: the same answers as MLflow's own, and clear words for bad ones."""

import re
from pathlib import Path

import pytest

from harness.runfolder.filters import FILTER, Filter
from harness.runfolder.run import Run
from harness.runfolder.selection import select
from harness.runfolder.target import Target
from harness.tracking.reading import Reader
from tests.conftest import new_run, record_training
from tests.tracking.conftest import deliver

FILTERS = [
    "params.batch = '16'",
    "params.batch != '16'",
    'params."batch" = "32"',
    "params.`optimizer.name` LIKE '%d%'",
    "params.`optimizer.name` LIKE 'AD%'",
    "params.`optimizer.name` ILIKE 'AD_M'",
    "params.`optimizer.beta1` IS NULL",
    "params.`optimizer.beta1` IS NOT NULL",
    "params.nothing != 'x'",
    "metrics.`val/error` < 0.3",
    "metrics.`val/error` >= 0.25 and params.batch = '16'",
    "metrics.`test/error` > 2.6e-1 AND metrics.`best/epoch` = 2",
    "metrics.`test/error` != 0.26",
    "tags.colour = 'red'",
    "tags.colour != 'red'",
    "tags.colour IS NULL",
    "tag.colour LIKE 'r_d'",
    "attributes.status = 'FINISHED'",
    "status != 'FINISHED'",
    "attributes.run_name LIKE 'batch=%'",
    "run_name = 'another'",
    "attributes.start_time > 1",
    "datasets.name = 'idx'",
    "params.seed = '1' and tags.colour = 'blue' and status = 'FAILED'",
]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five runs that differ in settings, tags, names, status and metrics; delivered to MLflow."""
    folder = tmp_path_factory.mktemp("outputs")
    made = [
        record_training(new_run(folder, "batch=16", colour="red"), 0.5, 0.25),
        record_training(new_run(folder, "batch=32", name="another", colour="blue"), 0.5, 0.375),
        record_training(new_run(folder, "batch=16", "optimizer=adam", "seed=2"), 0.25, 0.5),
        record_training(
            new_run(folder, "batch=16", "optimizer=adam"), 0.5, status="FAILED", error="why"
        ),
        new_run(folder, "batch=16", "lr=0.25"),
    ]
    deliver(folder, *(run.folder for run in made))
    return folder


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")  # MLflow's own
@pytest.mark.parametrize("text", FILTERS)
def test_the_answers_are_those_of_mlflow(outputs: Path, text: str) -> None:
    assert FILTER.match(text)
    recorded = Reader(Target.local(outputs)).select([text]).runs
    runs = [Run(path) for path in (outputs / "runs").iterdir()]
    accepted = {run.id for run in runs if Filter.parse(text).accepts(run)}
    assert accepted == {each.run for each in recorded}


def count(outputs: Path, text: str) -> int:
    return sum(Filter.parse(text).accepts(Run(path)) for path in (outputs / "runs").iterdir())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("params.batch < 20", 4),
        ("params.lr = 0.25", 1),
        ("params.optimizer.name < 3", 0),
        ("metrics.val/error<0.3", 1),
        ("metrics.test/error IS NULL", 2),
        ("params.batch NOT IN ('32', '64')", 4),
    ],
)
def test_beyond_mlflow(outputs: Path, text: str, expected: int) -> None:
    """Settings as numbers, and keys without backticks."""
    assert count(outputs, text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("params.bach = '16'", "params.bach: none of 5 runs has it; did you mean 'batch'?"),
        ("metrics.val/eror < 1", "metrics.val/eror: none of 5 runs has it; did you mean"),
        ("params.beta9 = '1'", "params.beta9: none of 5 runs has it"),
        ("params.beta9 IS NULL and tags.colour = 'green'", ""),
        ("metrics.test/error < 1 and params.optimizer.beta1 > 0", ""),
    ],
)
def test_a_key_that_no_run_has_is_named(outputs: Path, text: str, why: str) -> None:
    if not why:
        select(outputs, [text])
        return
    with pytest.raises(ValueError, match=re.escape(why)):
        select(outputs, [text])
    assert select(outputs / "none", [text]).runs == (), "nothing is known where no run is"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("params.batch =", "it ends too early"),
        ("params.batch '16'", "expected a comparison after 'batch', found \"'16'\""),
        ("params.batch = 16 or params.lr = 1", "expected `and` before 'or'"),
        ("metrics.loss = 'a'", "expected a number for 'loss', found 'a'"),
        ("tags.sweep = 3", "expected a text in quotes for 'sweep', found 3"),
        ("params.batch = sixteen", "in quotes, found 'sixteen'"),
        ("attributes.colour = 'a'", "'colour' is none of the attributes status, run_name"),
        ("params.a IN 'x'", "expected a list in parentheses after IN"),
        ("params.a IN ('x'", "expected a closing parenthesis"),
        ("params.a IS 3", "expected NULL or NOT NULL after IS"),
        ("params.a = '1", '"\'1" was not understood'),
        ("params.a LIKE 3", "expected a text in quotes, found '3'"),
        ("params.a = '1' and knows.b = 1", "'knows.b' begins with none of metrics, params"),
    ],
)
def test_what_is_not_understood_is_named(text: str, why: str) -> None:
    with pytest.raises(ValueError, match="is not a filter") as error:
        Filter.parse(text)
    assert why in str(error.value)
    assert "params.batch = '16' and" in str(error.value)


@pytest.mark.parametrize("name", ["batch=16,seed=1", "optimizer.lr=0.1", "mnist", "3f2a", "status"])
def test_a_name_is_no_filter(name: str) -> None:
    assert FILTER.match(name) is None
