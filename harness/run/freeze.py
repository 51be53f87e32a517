"""Turn validated configurations into run folders: extract data, compute keys, write files.

After this, neither an edit of `conf/` nor another command can change a job.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from harness.run import notices
from harness.run.compose import Job, in_job
from harness.run.existing import existing_runs, is_of_other_source, retraining, source_of
from harness.run.prepared import Prepared, keyed
from harness.runfolder import environment, folder, keys, own_code, own_dataset
from harness.runfolder.about import NOTE, About
from harness.runfolder.config import ConfigError
from harness.runfolder.folder import Identity, alone, open_run
from harness.runfolder.optional import warn
from harness.runfolder.parts import PartError
from harness.runfolder.plan import Plan, SweepJob, load_plan
from harness.runfolder.run import RACES, SOURCE, Run
from harness.runfolder.schema import DatasetConfig, ScratchConfig
from harness.runfolder.status import RunStatus

DIVISION_SLASH = "\u2215"  # MLflow's page of a run shows only what follows the last "/"
NOTHING_SAID = About()


@dataclass(frozen=True)
class Membership:
    """A run's place in a sweep: the sweep's id and the run's number, such as `2/15`.

    about: the sweep's name, note and question. kind: `SEARCHES`, `RACES`, or empty.
    """

    sweep: str
    number: str
    about: About = About()
    kind: str = ""


@contextmanager
def naming(job: Job) -> Iterator[None]:
    """Add the job's name to an error in a job of a sweep, as composing does."""
    try:
        yield
    except ValueError as error:
        if not job.swept or str(error).startswith(f"{job.name}:"):
            raise
        raise in_job(error, job.name) from error


def with_backend(job: Job) -> Job:
    """The job with its backend decided, so the frozen config names the one that trains it.

    Raises `ConfigError`, also for built-in parts that do not fit the data.
    """
    from harness.job import build  # loads the trainer, which commands that only print do not need

    config = job.config
    if not isinstance(config, ScratchConfig):
        return job
    sizes = own_dataset.measure(config.dataset)
    try:
        build.part("augmentation", config, sizes.input_shape)
    except PartError as error:
        raise ConfigError(str(error)) from error
    build.check_model(config, sizes.input_shape)
    build.check_loss(config, is_regression=sizes.is_regression)
    build.check_metrics(config, is_regression=sizes.is_regression)
    if line := build.slow_backend(config):
        notices.say(line)
    backend = build.backend(config)
    return replace(job, config=replace(config, backend=backend))


def prepare(jobs: list[Job]) -> list[Prepared]:
    """Extract every data set that the jobs use and compute their keys. Raises `ValueError`."""
    examined: dict[str, dict[str, object]] = {}  # once each, however many jobs use it
    records = []
    for job in jobs:
        config = job.config
        normalization = (
            config.parts["normalization"].name if "normalization" in config.parts else ""
        )
        same = repr((config.dataset, normalization, config.outputs))
        if same not in examined:
            with naming(job):
                examined[same] = _examine(config.dataset, normalization, config.outputs)
        records.append(examined[same])
    return keyed(zip(jobs, records, strict=True))


def _examine(settings: DatasetConfig, normalization: str, outputs: str) -> dict[str, object]:
    """Extract a data set; returns its part of the create record.

    Raises `ValueError`, and `ConfigError` if the normalization cannot be used with the data.
    """
    from harness.data import normalization as normalizations

    data = own_dataset.load(settings, Path(outputs) / "cache")
    try:
        normalizations.check_spread(normalization, data.train.inputs, data.train.rows)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    notices.narrow_grays(normalization, data)
    doubts = notices.doubts(settings.name, data)
    return {
        "name": data.name,
        "sha256": data.sha256,
        "source": settings.place or settings.name,
        "train": len(data.train),
        "val": 0 if data.val is None else len(data.val),
        "test": len(data.test),
        "image_shape": list(data.input_shape),
        "classes": data.classes,
        "class_names": list(data.class_names),
        "dtype": data.train.inputs.dtype.name,
        **({"doubts": doubts} if doubts else {}),
    }


def freeze_run(prepared: Prepared, overrides: list[str], about: About = NOTHING_SAID) -> Run:
    """Make the run folder of a command without `-m`."""
    with alone(Path(prepared.job.config.outputs)):
        return _create(prepared, overrides, None, about)


def freeze_sweep(
    prepared: list[Prepared], overrides: list[str], *, fresh: bool, accept: bool = False,
    about: About = NOTHING_SAID, first: Sequence[Prepared] | None = None, mark: str = "",
    costs: tuple[str, ...] = (),
) -> Plan:  # fmt: skip
    """Make the run folders of a sweep and write its plan.

    Unless `fresh`, a sweep reuses runs with the same keys: finished ones are done, others are
    continued. accept: see `existing_runs`. about: the command's name, note and question. first: the
    jobs to start with if the sweep grows; the jobs of its earlier plan are added. mark: makes its
    id differ from that of the same sweep without a mark. costs: see `Plan`; if empty, those of the
    earlier plan. Raises `ConfigError` if the question differs from the earlier one.
    """
    outputs = Path(prepared[0].job.config.outputs)
    plan_id = keys.sweep_id([*(each.key for each in prepared), *([mark] if mark else [])])
    with alone(outputs):
        before = _former(outputs, plan_id)
        chosen = prepared
        if first is not None:
            begun = {each.key for each in first}
            begun |= set() if fresh else {job.key for job in before.jobs}
            chosen = [each for each in prepared if each.key in begun]
        runs = [] if fresh else folder.all_runs(outputs)
        found = existing_runs(chosen, runs, accept=accept, sweep=plan_id)
        try:
            said = before.about.then(
                about, sum(run is not None and run.is_finished for run in found)
            )
        except ValueError as error:
            raise ConfigError(str(error)) from None
        retraining(runs, [p for p, run in zip(chosen, found, strict=True) if run is None])
        kind = "" if first is None else RACES
        jobs = _freeze_jobs(plan_id, chosen, found, prepared, overrides, said, kind)
        replaced = _replaced(outputs, before, {job.run for job in jobs})
        costs = costs or before.costs
        plan = Plan(plan_id, tuple(overrides), tuple(jobs), replaced, said, costs=costs)
        plan.save(outputs)
    return plan


def add_jobs(
    plan: Plan, more: Sequence[Prepared], prepared: list[Prepared], *, fresh: bool, accept: bool
) -> Plan:
    """Make the run folders of more jobs of a sweep; returns its plan with them, in order.

    prepared: all jobs that the sweep can get. fresh, accept: see `freeze_sweep`.
    """
    outputs = Path(prepared[0].job.config.outputs)
    with alone(outputs):
        runs = [] if fresh else folder.all_runs(outputs)
        found = existing_runs(more, runs, accept=accept, sweep=plan.id)
        jobs = _freeze_jobs(plan.id, more, found, prepared, list(plan.overrides), plan.about, RACES)
        order = {each.key: number for number, each in enumerate(prepared)}
        ordered = sorted([*plan.jobs, *jobs], key=lambda job: order[job.key])
        plan = replace(plan, jobs=tuple(ordered))
        plan.save(outputs)
    return plan


def _freeze_jobs(
    plan_id: str, chosen: Sequence[Prepared], found: Sequence[Run | None],
    prepared: Sequence[Prepared], overrides: list[str], about: About, kind: str,
) -> list[SweepJob]:  # fmt: skip
    """Make or join the runs of the chosen jobs. found: their existing runs. prepared: all jobs."""
    numbers = {id(each): number for number, each in enumerate(prepared, 1)}  # keys may be equal
    jobs = []
    for each, run in zip(chosen, found, strict=True):
        membership = Membership(plan_id, f"{numbers[id(each)]}/{len(prepared)}", about, kind)
        job = _freeze_job(each, overrides, run, membership)
        if run is not None and is_of_other_source(run, each):
            run.accept_in(plan_id)
            job = replace(job, other_source=source_of(run.history(), each.code))
        jobs.append(job)
    return jobs


def _former(outputs: Path, plan_id: str) -> Plan:
    """The plan of the sweep that an earlier command wrote; an empty one if there is none."""
    try:
        return load_plan(outputs, plan_id)
    except ValueError:  # there is none, or it is damaged and is written again
        return Plan(plan_id, (), ())


def _replaced(outputs: Path, before: Plan, runs: set[str]) -> tuple[str, ...]:
    """Remove from the sweep the earlier runs that its new plan lacks; returns their ids."""
    former = [*before.replaced, *(job.run for job in before.jobs)]
    replaced = tuple(each for each in dict.fromkeys(former) if each not in runs)
    for run in (open_run(outputs, each) for each in replaced):
        is_whole = run.is_readable() and run.history().status is not RunStatus.DAMAGED
        if is_whole and not run.is_live():
            run.leave_sweep(before.id)
    return replaced


def freeze_trial(prepared: Prepared, overrides: list[str], membership: Membership) -> SweepJob:
    """The run of one trial of a search: the existing one with its key, or a new one."""
    outputs = Path(prepared.job.config.outputs)
    with alone(outputs):
        (run,) = existing_runs([prepared], folder.all_runs(outputs), accept=False)
        return _freeze_job(prepared, overrides, run, membership)


def _freeze_job(
    prepared: Prepared, overrides: list[str], run: Run | None, membership: Membership
) -> SweepJob:
    """Make or join the run of a sweep's job. run: the existing one; None: make a new one."""
    if run is None:
        run = _create(prepared, overrides, membership)
    elif not run.is_live():
        about = membership.about.tags()
        run.join_sweep(membership.sweep, membership.number, about, membership.kind)
    return SweepJob(run.id, prepared.job.name, prepared.job.swept, prepared.key)


def _create(
    prepared: Prepared, overrides: list[str], membership: Membership | None,
    about: About = NOTHING_SAID,
) -> Run:  # fmt: skip
    """Make a run folder. about: the name and note of a run outside a sweep."""
    tags = _common_tags(overrides)
    tags |= {"run_key": prepared.key, "data.sha256": prepared.data_digest}
    if membership is not None:
        tags |= {"sweep": membership.sweep, "sweep.job": membership.number}
        tags |= membership.about.tags()
        tags |= {membership.kind: membership.sweep} if membership.kind else {}
    if about.note:
        tags[NOTE] = about.note
    if prepared.code:
        tags["code.sha256"] = own_code.digest(prepared.code)
    config = prepared.job.config
    if isinstance(config, ScratchConfig):
        tags[SOURCE] = keys.source_digest()
    identity = Identity(about.name or prepared.job.name, tags, prepared.dataset, prepared.code)
    return folder.create(Path(config.outputs), config, identity)


@cache
def source() -> environment.Commit | None:
    """The commit of the harness; None when it is not known, with a warning if git failed."""
    try:
        return environment.commit()
    except environment.NoCommit as error:
        if environment.in_checkout():
            warn("commit", str(error))
        return None


def _common_tags(overrides: list[str]) -> dict[str, str]:
    commit = source()
    command = " ".join(["python -m harness.run", *overrides])
    tags = {
        "mlflow.user": environment.user(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": command.replace("/", DIVISION_SLASH),
        "git.dirty": "unknown" if commit is None else str(commit.dirty).lower(),
    }
    if "/" in command:
        tags["command"] = command
    if commit is not None:
        tags["mlflow.source.git.commit"] = commit.sha
    return tags


def interrupted_run(outputs: Path, prefix: str) -> Run:
    """The run that `resume=PREFIX` continues. Raises `ValueError`."""
    run = folder.find(outputs, prefix)
    if prefix == "last":
        run = _started(outputs, run)
    if run.is_finished:
        raise ConfigError(
            f"resume={prefix}: {run.id} is finished; there is nothing to continue; "
            "another number of epochs is another run: repeat its command with epochs=N"
        )
    if run.is_live():
        raise ConfigError(f"resume={prefix}: {run.id} is being trained now")
    run.check_trainable()
    own_code.use(run.history().code)
    run.dataset()  # extracts it again if the cache has lost it
    return run


def _started(outputs: Path, newest: Run) -> Run:
    """The newest run or, in an interrupted sweep, the job that was being trained."""
    sweep = newest.history().tags.get("sweep")
    if newest.history().start is not None or sweep is None:
        return newest
    others = [
        run
        for run in folder.readable_runs(outputs)
        if (history := run.history()).tags.get("sweep") == sweep
        and history.start is not None
        and history.status is not RunStatus.FINISHED
        and not history.is_pruned
        and not run.is_live()
    ]
    return others[-1] if others else newest
