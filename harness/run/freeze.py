"""From validated configurations to run folders: data extracted, keys computed, all on disk.

After this nothing about a job can change, neither by an edit of `conf/` nor by another command.
"""

import itertools
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from filelock import Timeout

from harness.run import notices
from harness.run.compose import Job
from harness.runfolder import config as configuration
from harness.runfolder import environment, folder, keys, own_code
from harness.runfolder.config import ConfigError
from harness.runfolder.folder import Identity
from harness.runfolder.keys import Key
from harness.runfolder.liveness import FolderLock
from harness.runfolder.optional import warn
from harness.runfolder.own_code import Source
from harness.runfolder.own_dataset import located, measure
from harness.runfolder.parts import PartError
from harness.runfolder.plan import Plan, SweepJob
from harness.runfolder.run import Run
from harness.runfolder.schema import Config, DatasetConfig, ScratchConfig

ALONE_S = 120.0  # a command needs a few ms for each new run


class Busy(ConfigError):
    """Another command holds the lock of the runs for too long."""


@dataclass(frozen=True)
class Prepared:
    """A job whose data is in the cache.

    dataset: the data set's part of the create record. code: the user's source files.
    """

    job: Job
    key: str
    dataset: dict[str, object]
    code: Sequence[Source] = ()


@dataclass(frozen=True)
class Membership:
    """A run's place in a sweep: the sweep's id, and its number such as `2/15`."""

    sweep: str
    number: str


@contextmanager
def naming(job: Job) -> Iterator[None]:
    """Add the job of a sweep to the line about what is wrong with it, as composing does."""
    try:
        yield
    except ValueError as error:
        if not job.swept or str(error).startswith(f"{job.name}:"):
            raise
        raise ConfigError(f"{error} (in the job {job.name})") from error


def with_backend(job: Job) -> Job:
    """The job with its backend decided, so that the frozen config has what trains it.

    Raises `ConfigError`, also for built-in parts that do not fit the data.
    """
    from harness.job import build  # the trainer, which commands that only print do not need

    config = job.config
    if not isinstance(config, ScratchConfig):
        return job
    sizes = measure(config.dataset)
    try:
        build.part("augmentation", config, sizes.input_shape)
    except PartError as error:
        raise ConfigError(str(error)) from error
    build.check_model(config, sizes.input_shape)
    build.check_loss(config, is_regression=sizes.is_regression)
    build.check_metrics(config, is_regression=sizes.is_regression)
    if fault := build.numba_fault(config):
        notices.say(f"warning: backend=auto trains with NumPy: {fault}")
    backend = build.backend(config, build.kind_of_inputs(sizes.dtype, sizes.is_regression))
    return replace(job, config=replace(config, backend=backend))


def prepare(jobs: list[Job]) -> list[Prepared]:
    """Extract every data set that the jobs use and compute their keys. Raises `ValueError`."""
    examined: dict[str, dict[str, object]] = {}  # once, however many jobs use the same
    own_sources = cache(own_code.sources)
    prepared = []
    for job in jobs:
        config = job.config
        normalization = (
            config.parts["normalization"].name if "normalization" in config.parts else ""
        )
        same = repr((config.dataset, normalization, config.outputs))
        if same not in examined:
            with naming(job):
                examined[same] = _examine(config.dataset, normalization, config.outputs)
        record = examined[same]
        code = own_sources(config.own_names)
        key = keys.run_key(config, str(record["sha256"]), code)
        prepared.append(Prepared(job, key, record, code))
    return prepared


def _examine(settings: DatasetConfig, normalization: str, outputs: str) -> dict[str, object]:
    """Extract a data set; returns its part of the create record.

    Raises `ValueError`, `ConfigError` for a normalization that the data cannot have.
    """
    from harness.data import normalization as normalizations
    from harness.data.dataset import open_dataset
    from harness.data.extraction import prepare as extract

    cache_folder = Path(outputs) / "cache"
    digest = extract(*located(settings, cache_folder), cache_folder)
    data = open_dataset(
        digest,
        cache_folder,
        num_val=settings.num_val,
        num_train=settings.num_train,
        split_seed=settings.split_seed,
        label=settings.title,
    )
    try:
        normalizations.check_spread(normalization, data.train.inputs, data.train.rows)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    notices.narrow_grays(normalization, data)
    return {
        "name": data.name,
        "sha256": digest,
        "source": settings.place or settings.name,
        "train": len(data.train),
        "val": 0 if data.val is None else len(data.val),
        "test": len(data.test),
        "image_shape": list(data.input_shape),
        "classes": data.classes,
        "class_names": list(data.class_names),
        "dtype": data.train.inputs.dtype.name,
    }


@contextmanager
def alone(outputs: Path) -> Iterator[None]:
    """Hold the lock that lets one command at a time decide which runs there are and make others.

    Without it, two equal sweeps started at the same time would each make all runs. Raises `Busy`.
    """
    folder.runs_folder(outputs).mkdir(parents=True, exist_ok=True)
    path = folder.runs_folder(outputs) / ".lock"
    lock = FolderLock(path, timeout=ALONE_S)
    try:
        held = lock.acquire()
    except Timeout:
        raise Busy(
            f"{path}: another command has held it for {ALONE_S:.0f} s; end that one, or wait for it"
        ) from None
    with held:
        yield


def freeze_run(prepared: Prepared, overrides: list[str]) -> Run:
    """Make the run folder of a command without `-m`."""
    with alone(Path(prepared.job.config.outputs)):
        return _create(prepared, overrides, None)


def freeze_sweep(
    prepared: list[Prepared], overrides: list[str], *, fresh: bool, accept: bool = False
) -> Plan:
    """Make the run folders of a sweep and write its plan.

    A sweep builds on runs with the same keys, unless `fresh`: finished ones are done, others are
    continued. accept: see `existing`.
    """
    outputs = Path(prepared[0].job.config.outputs)
    plan_id = keys.sweep_id([each.key for each in prepared])
    with alone(outputs):
        runs = [] if fresh else folder.all_runs(outputs)
        found = existing(prepared, runs, accept=accept)
        new = [wanted(p) for p, run in zip(prepared, found, strict=True) if run is None]
        notices.retraining(runs, new)
        jobs = []
        for number, (each, run) in enumerate(zip(prepared, found, strict=True), 1):
            membership = Membership(plan_id, f"{number}/{len(prepared)}")
            job = _freeze_job(each, overrides, run, membership)
            if run is not None and is_of_other_source(run, each):
                run.accept_in(plan_id)
                job = replace(job, other_source=notices.source_of(run.history()))
            jobs.append(job)
        plan = Plan(plan_id, tuple(overrides), tuple(jobs))
        plan.save(outputs)
    return plan


def existing(prepared: list[Prepared], runs: list[Run], *, accept: bool) -> list[Run | None]:
    """The run that each job builds on; None for a job that is new.

    runs: oldest first. accept: a job whose settings and data were trained to the end by other
    source builds on that run, unless it has a finished one of this source. Raises `ConfigError`
    for a run that was changed since it was frozen, or that a newer version wrote.
    """
    # `threads=1,2` is a sweep as well, although it changes no result.
    swept = {name for each in prepared for name in each.job.swept}
    also = sorted(name for name in swept if not keys.determines_result(name))
    by_key = keys.runs_by_key(runs, {each.key for each in prepared}, also)
    found = [by_key.get(_full_key(each, also)) for each in prepared]
    if accept:
        left = [run is None or not run.is_finished for run in found]
        others = notices.of_other_source(
            runs, list(map(wanted, itertools.compress(prepared, left))), also
        )
        found = [
            others.get(_full_key(each, also)) or run if is_left else run
            for each, run, is_left in zip(prepared, found, left, strict=True)
        ]
    for run in found:
        if run is not None and not run.is_finished:
            run.check_trainable()  # a finished run does not need its config.yaml
    return found


def is_of_other_source(run: Run, prepared: Prepared) -> bool:
    """Whether a job builds on a run that other source has trained."""
    return bool(run.create["tags"].get("run_key") != prepared.key)


def wanted(prepared: Prepared) -> tuple[Config, str, str]:
    """The configuration, the digest of the data and the run key of a job."""
    return prepared.job.config, str(prepared.dataset["sha256"]), prepared.key


def _full_key(prepared: Prepared, also: Collection[str]) -> Key:
    return keys.full_key(prepared.key, configuration.leaves(prepared.job.config), also)


def freeze_trial(prepared: Prepared, overrides: list[str], membership: Membership) -> SweepJob:
    """The run of one trial of a search: the existing one of its key, or a new one."""
    outputs = Path(prepared.job.config.outputs)
    with alone(outputs):
        (run,) = existing([prepared], folder.all_runs(outputs), accept=False)
        return _freeze_job(prepared, overrides, run, membership)


def _freeze_job(
    prepared: Prepared, overrides: list[str], run: Run | None, membership: Membership
) -> SweepJob:
    """The run of a job of a sweep: the one that it builds on, or a new one."""
    if run is None:
        run = _create(prepared, overrides, membership)
    elif not run.is_live():
        run.join_sweep(membership.sweep, membership.number)
    return SweepJob(run.id, prepared.job.name, prepared.job.swept, prepared.key)


def _create(prepared: Prepared, overrides: list[str], membership: Membership | None) -> Run:
    tags = _common_tags(overrides)
    tags |= {"run_key": prepared.key, "data.sha256": str(prepared.dataset["sha256"])}
    if membership is not None:
        tags |= {"sweep": membership.sweep, "sweep.job": membership.number}
    if prepared.code:
        tags["code.sha256"] = own_code.digest(prepared.code)
    config = prepared.job.config
    identity = Identity(prepared.job.name, tags, prepared.dataset, prepared.code)
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
    tags = {
        "mlflow.user": environment.user(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": " ".join(["python -m harness.run", *overrides]),
        "git.dirty": "unknown" if commit is None else str(commit.dirty).lower(),
    }
    if commit is not None:
        tags["mlflow.source.git.commit"] = commit.sha
    return tags


def interrupted_run(outputs: Path, prefix: str) -> Run:
    """The run that `resume=PREFIX` continues. Raises `ValueError`."""
    run = folder.find(outputs, prefix)
    if run.is_finished:
        raise ConfigError(f"resume={prefix}: {run.id} is finished; there is nothing to continue")
    if run.is_live():
        raise ConfigError(f"resume={prefix}: {run.id} is being trained at this moment")
    run.check_trainable()
    own_code.use(run.history().code)
    run.dataset()  # extracts it again where the cache has lost it
    return run
