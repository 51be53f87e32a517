"""`python -m harness register`: register the best run of a sweep as an MLflow model."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from harness.commands.options import CONFIG_DIR, OUTPUTS, refuse
from harness.recognizer import champion, loading, registry
from harness.recognizer.registry import Version
from harness.run.run_table import best_row
from harness.runfolder import checkpoint
from harness.runfolder.hint import hint
from harness.runfolder.objective import Objective
from harness.runfolder.run import Run
from harness.runfolder.selection import one_run, select, shown_plans
from harness.runfolder.target import shown
from harness.tracking.errors import StoreError

EXAMPLES = 2  # rows of the model's input example


@click.command()
@click.argument("sweep_or_run", default=None, required=False)
@OUTPUTS
@CONFIG_DIR
@click.option("--name", default=None, help="The registered model; by default, its data set.")
@click.option("--alias", default=champion.ALIAS, show_default=True, help="The alias to set.")
@click.option("--replace", is_flag=True, help="Also replace a model of another data set.")
def register(
    sweep_or_run: str | None, outputs: Path, name: str | None, alias: str, replace: bool
) -> None:
    """Register a run, or the best run of a sweep by its objective (default: the newest)."""
    try:
        run = best_of(outputs, sweep_or_run)
        registered = register_run(run, name or default_name(run), alias, replace=replace)
    except (ValueError, StoreError) as error:
        refuse(error)
    best, objective = registered.best, Objective.parse(run.config.objective)
    suffix = "" if best is None else f" ({objective.title} {objective.format(best)})"
    version = registered.version
    replaced = f", instead of {version.replaced}" if version.replaced else ""
    click.echo(
        f"run {registered.run}{suffix} is {version.name} version {version.number}"
        f"{'' if version.is_new else ' already'}; "
        f"{version.name}@{version.alias} points to it{replaced}"
    )
    if version.worse:
        click.echo(f"note: {version.worse}", err=True)
    store = shlex.quote(shown(registered.store))
    click.echo(
        f"serve it:  MLFLOW_TRACKING_URI={store} mlflow models serve -m {shlex.quote(version.uri)} "
        "--env-manager local -p 5001"
    )


@dataclass(frozen=True)
class Registered:
    """A registered version, its run, the best value of its objective, and the URI of its store."""

    version: Version
    run: str
    best: float | None
    store: str


def best_of(outputs: Path, sweep_or_run: str | None) -> Run:
    """The best run of a sweep (None: the newest one) by its objective, or the run with that id.

    Raises `ValueError`.
    """
    plans = shown_plans(outputs)
    if sweep_or_run is not None:
        chosen = select(outputs, [sweep_or_run])
        if chosen.plan is None or sweep_or_run == "last":
            return one_run(outputs, sweep_or_run)
        plans = [chosen.plan]
    if not plans:
        raise ValueError(
            f"no sweep in {outputs}: run one with `python -m harness.run -m ...`, or name a run "
            f"that `{hint('status', outputs=outputs)}` lists"
        )
    planned = plans[-1].runs(outputs)
    sound = [run for run in planned if run.problem() is None]
    runs = [run for run in sound if not run.is_archived] or sound
    if len(runs) < len(planned):
        missing = ", ".join(run.id for run in planned if run not in runs)
        click.echo(
            f"note: sweep {plans[-1].id}: left out {missing}, removed, damaged or archived",
            err=True,
        )
    histories = [run.history() for run in runs]
    try:
        best = best_row(histories)
    except ValueError as error:
        raise ValueError(f"sweep {plans[-1].id}: {error}; name a run instead") from None
    if best is None:
        what = Objective.of(histories[0].params).title if histories else "validation error"
        raise ValueError(
            f"sweep {plans[-1].id}: none of its {len(runs)} runs is finished and has a {what}; "
            "name a run instead"
        )
    if (trainer := runs[best].config.trainer).is_own:
        raise ValueError(
            f"sweep {plans[-1].id}: trainer={trainer.name} trained its best run, and only the "
            "built-in trainer makes a network to register; name a run of that one: "
            f"`{hint('register', 'RUN', outputs=outputs)}`"
        )
    return runs[best]


def default_name(run: Run) -> str:
    """The name of the run's data set; for custom data without a label, its folder or file name."""
    settings = run.config.dataset
    if settings.label is None and settings.name in ("idx", "arrays") and settings.place:
        place = Path(settings.place).resolve()
        return place.stem if settings.name == "arrays" else place.name
    return str(run.history().create["dataset"]["name"])


def register_run(run: Run, name: str, alias: str, *, replace: bool = False) -> Registered:
    """Log and register a run's model and set the alias. Raises `ValueError` or `StoreError`."""
    trained = loading.load_run(run)
    history, target = run.history(), run.target()
    mlflow_id = run.delivered().get("mlflow_id")
    if target is None or not mlflow_id:
        raise ValueError(
            f"run {run.id} is not in a tracking store (tracking={history.params['tracking.name']})"
            "; train with tracking=local or server, or deliver it with "
            f"`{hint('sync', outputs=run.outputs)}`"
        )
    arrays, _ = checkpoint.load(run.weights)
    data = run.dataset()
    images = np.array(data.test.inputs[:EXAMPLES]).reshape(-1, *data.input_shape)
    dataset = history.create["dataset"]
    source = registry.Source(run.id, str(mlflow_id), str(dataset["name"]), str(dataset["sha256"]))
    version = registry.register(
        target, source, trained, arrays, name=name, alias=alias, example=images, replace=replace
    )
    best = history.final.get(Objective.of(history.params).best_key)
    return Registered(version, run.id, best, target.uri)
