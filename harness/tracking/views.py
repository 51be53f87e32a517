"""Set what the MLflow UI shows first: a note on the experiment, sweep views, and links to both.

By default the UI draws only the ten newest runs, and its table has no metrics. A shared view, which
MLflow keeps as a tag of the experiment, holds filter, order, columns and grouping; a link opens it.
"""

import json
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.nn import metrics
from harness.runfolder.objective import DEFAULT, Objective
from harness.runfolder.plan import Plan
from harness.runfolder.target import shown
from harness.tracking.mlflow_private import OURS, SHARED_VIEW, chart_state

if TYPE_CHECKING:
    from mlflow import MlflowClient

SEED = "seed"
# Sections with one point per run, or without results.
COLLAPSED = ("best", "test", "time", "machine", "model")
NOTE = f"""\
Every run is one training. The errors of a classification are **fractions**, not percent; the
losses and errors of a regression are in the units of its targets.

- `{metrics.BEST_VAL_ERROR}` chooses: the validation error at epoch `{metrics.BEST_EPOCH}`, the
  lowest of a run, or the last with `weights=last`. `{metrics.VAL_ERROR}` in the table is that of
  the *last* epoch. A run with another `objective` has `best/` and the name of that metric
  instead: a regression has no errors, and `best/val_loss`.
- `{metrics.TEST_ERROR}` is read once, with the weights of that epoch (by a trainer of your own:
  as it is written). Do not choose by it.
- `train/` and `val/` are per epoch; `train/` is measured while training, `time/` in seconds.
- `model/parameters` counts the numbers that a network learns.
- `machine/` is what a training took: peak memory in MB, CPU seconds, and joules where they are
  measured.
- MLflow's *Duration* begins when the run was queued: in a sweep it includes waiting in the queue.
- The tag `sweep` names the sweeps a run belongs to. `python -m harness ui` links to a view of the
  newest one; `python -m harness compare` shows which differences are real and stores its report
  with the best run, under Artifacts, `report/`.
"""
EXPERIMENT_TAGS = {
    OURS: "true",
    "mlflow.note.content": NOTE,
    "mlflow.experimentKind": "custom_model_development",
}


def swept_params(swept: Iterable[str], params: Mapping[str, object]) -> list[str]:
    """The params of the keys of a sweep; the param of a group is its name."""
    names = []
    for key in swept:
        if key in params:
            names.append(key)
        elif f"{key}.name" in params:
            names.append(f"{key}.name")
    return names


def columns(objective: Objective) -> list[str]:
    """The metrics that the view of a sweep shows."""
    shown_first = [objective.best_key, metrics.BEST_EPOCH, objective.metric, objective.test_key]
    return list(dict.fromkeys([*shown_first, metrics.TRAIN_LOSS, metrics.EPOCH_S]))


def curves(objective: Objective) -> list[str]:
    """The metrics whose curves come first: the objective, then the training loss."""
    return list(dict.fromkeys([objective.metric, metrics.TRAIN_LOSS]))


@dataclass(frozen=True)
class View:
    """What the view of a sweep shows. params: the swept ones. objective: as typed."""

    sweep: str
    params: list[str]
    objective: str = str(DEFAULT)

    @classmethod
    def of(cls, plan: Plan, outputs: Path) -> "View | None":
        """The view of a sweep on disk; None if none of its runs can be read."""
        readable = plan.readable_runs(outputs)
        if not readable:
            return None
        swept = dict.fromkeys(key for job in plan.jobs for key in job.swept)
        params = readable[0].history().params
        return cls(plan.id, swept_params(swept, params), str(Objective.of(params)))

    def tag(self) -> tuple[str, str]:
        """The tag of an experiment that holds the view: its key and its value."""
        state = view_state(self.sweep, self.params, Objective.parse(self.objective))
        return f"{SHARED_VIEW}sweep-{self.sweep}", json.dumps(state)


def save_view(client: "MlflowClient", experiment_id: str, view: View) -> None:
    """Store the view of a sweep with an experiment. Raises `ValueError`."""
    from mlflow.exceptions import MlflowException

    try:
        client.set_experiment_tag(experiment_id, *view.tag())
    except MlflowException as error:
        raise ValueError(
            f"no view of sweep {view.sweep}: {shown(str(error).splitlines()[0])}"
        ) from error


def view_state(sweep: str, params: Iterable[str], objective: Objective) -> dict[str, object]:
    """The view of a sweep: its runs, best first, with the swept params and the results.

    Its curves come first. Runs that differ only in the seed are drawn as one, their mean.
    """
    keys = list(params)
    settings = [key for key in keys if key != SEED]
    state: dict[str, object] = {
        "searchFilter": f"tags.sweep LIKE '%{sweep}%'",
        "orderByKey": f"metrics.`{objective.best_key}`",
        "orderByAsc": not objective.is_max,
        "selectedColumns": [f"params.`{key}`" for key in keys]
        + [f"metrics.`{key}`" for key in columns(objective)],
        "runsHiddenMode": "SHOW_ALL",
    } | chart_state(curves(objective), COLLAPSED)
    if SEED in keys and settings:
        groups = [{"mode": "param", "groupByData": key} for key in settings]
        state["groupBy"] = {"aggregateFunction": "average", "groupByKeys": groups}
    return state


def view_link(base: str, experiment_id: str, sweep: str) -> str:
    """The address of a sweep's stored view in the chart view."""
    return f"{_charts(base, experiment_id)}&viewStateShareKey=sweep-{sweep}"


def sweep_link(base: str, experiment_id: str, sweep: str) -> str:
    """The address of the MLflow UI's chart view with exactly the runs of one sweep."""
    condition = urllib.parse.quote(f"tags.sweep LIKE '%{sweep}%'")
    return f"{_charts(base, experiment_id)}&searchFilter={condition}"


def _charts(base: str, experiment_id: str) -> str:
    return (
        f"{base}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
        "&compareRunsMode=CHART"
    )
