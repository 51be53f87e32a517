"""Links and views of the MLflow UI."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.runfolder.objective import Objective
from harness.runfolder.plan import Plan, SweepJob
from harness.tracking.views import View, save_view, sweep_link, swept_params, view_link
from tests.conftest import new_run, record_training

BASE = "http://127.0.0.1:5000"


def test_the_link_to_a_sweep_is_quoted() -> None:
    link = sweep_link(BASE, "7", "abc")
    assert link.endswith("searchFilter=tags.sweep%20LIKE%20%27%25abc%25%27")
    charts = "/#/experiments/7/runs?workflowType=machine_learning&compareRunsMode=CHART"
    assert link.startswith(BASE + charts)
    assert view_link(BASE, "7", "abc") == f"{BASE}{charts}&viewStateShareKey=sweep-abc"


def test_the_params_of_swept_keys() -> None:
    params = {"batch": 16, "optimizer.name": "adam", "seed": 1}
    assert swept_params(["batch", "optimizer", "seed"], params) == [
        "batch", "optimizer.name", "seed",
    ]  # fmt: skip
    assert swept_params(["experiment"], params) == [], "its settings are params of their own"


class Client:
    """The part of an MLflow client that stores a view."""

    def __init__(self) -> None:
        self.tags: dict[tuple[str, str], dict[str, object]] = {}

    def set_experiment_tag(self, experiment_id: str, key: str, value: str) -> None:
        self.tags[experiment_id, key] = json.loads(value)


@pytest.mark.parametrize(
    ("params", "grouped"),
    [(["batch", "seed"], ["batch"]), (["batch"], None), (["seed"], None)],
)
@pytest.mark.filterwarnings("ignore")
def test_a_view_groups_runs_that_differ_only_in_their_seed(
    params: list[str], grouped: list[str] | None
) -> None:
    client = Client()
    save_view(client, "7", View("abc", params))  # type: ignore[arg-type]
    (((experiment_id, _), state),) = client.tags.items()
    assert experiment_id == "7"
    assert state["searchFilter"] == "tags.sweep LIKE '%abc%'"
    assert state["selectedColumns"][: len(params)] == [f"params.`{key}`" for key in params]
    if grouped is None:
        assert "groupBy" not in state
    else:
        keys = state["groupBy"]["groupByKeys"]  # type: ignore[index]
        assert [key["groupByData"] for key in keys] == grouped


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("objective", "first", "ascending"),
    [
        (Objective("val/error"), "best/val_error", True),
        (Objective("val/top2_accuracy", is_max=True), "best/val_top2_accuracy", False),
    ],
)
def test_a_view_is_ordered_by_the_objective(
    objective: Objective, first: str, ascending: bool
) -> None:
    client = Client()
    save_view(client, "7", View("abc", ["batch"], str(objective)))  # type: ignore[arg-type]
    (state,) = client.tags.values()
    assert (state["orderByKey"], state["orderByAsc"]) == (f"metrics.`{first}`", ascending)
    assert state["selectedColumns"] == [
        "params.`batch`",
        *(
            f"metrics.`{key}`"
            for key in (first, "best/epoch", objective.metric, objective.test_key, "train/loss",
                        "time/epoch_s")
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("objective", "curves"),
    [
        ("val/error", ["val/error", "train/loss"]),
        ("val/top2_accuracy:max", ["val/top2_accuracy", "train/loss"]),
        ("train/loss", ["train/loss"]),
    ],
)
def test_a_view_begins_with_the_curves_of_the_objective_and_the_training_loss(
    objective: str, curves: list[str]
) -> None:
    key, value = View("abc", ["batch"], objective).tag()
    state = json.loads(value)
    assert key == "mlflow.sharedViewState.sweep-abc"
    first, *others = state["compareRunSections"]
    assert first["display"] is True
    assert first["columns"] == len(curves), "each as wide as the page allows"
    assert {each["name"]: each["display"] for each in others} == {
        "best": False, "test": False, "time": False, "machine": False, "model": False,
    }  # fmt: skip
    assert state["isAccordionReordered"] is True, "or MLflow sorts the sections by name"
    cards = state["compareRunCharts"]
    assert [(card["type"], card["metricKey"]) for card in cards] == [
        ("LINE", metric) for metric in curves
    ]
    assert {card["metricSectionId"] for card in cards} == {first["uuid"]}
    assert len({card["uuid"] for card in cards}) == len(cards)


def test_the_view_of_a_sweep_on_disk(tmp_path: Path) -> None:
    run = record_training(new_run(tmp_path), 0.5)
    jobs = (
        SweepJob(run.id, "batch=1", {"batch": "1"}, "key"),
        SweepJob("gone", "seed=2", {"seed": "2"}, "key"),  # of another block of a sweep's file
    )
    plan = Plan("abc", ("-m",), jobs)
    assert View.of(plan, tmp_path) == View("abc", ["batch", "seed"], "val/error")
    assert View.of(replace(plan, jobs=jobs[1:]), tmp_path) is None
