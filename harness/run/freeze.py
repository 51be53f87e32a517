"""From validated configurations to run folders: data extracted, keys computed, everything on disk.

After this nothing about a job can change: neither an edit of `conf/` nor another command's options.
"""

import getpass
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from harness.run.compose import Job
from harness.runfolder import config as configuration
from harness.runfolder import environment, journal
from harness.runfolder import folder as runs
from harness.runfolder import plan as sweep
from harness.runfolder.config import ConfigError
from harness.runfolder.plan import Plan, SweepJob
from harness.runfolder.schema import Config


@dataclass(frozen=True)
class Prepared:
    """A job whose data is in the cache. dataset: what its journal says of the data set."""

    job: Job
    key: str
    dataset: dict[str, object]


def with_backend(job: Job) -> Job:
    """The job with its backend decided, so that the frozen config says what trains it."""
    from harness.job import build

    return replace(job, config=replace(job.config, backend=build.backend(job.config)))


def prepare(jobs: list[Job]) -> list[Prepared]:
    """Extract every data set that the jobs use and key the jobs. Raises `ValueError`."""
    from harness.data.dataset import open_dataset
    from harness.data.extraction import prepare as extract

    prepared = []
    for job in jobs:
        wanted = job.config.dataset
        cache = Path(job.config.outputs) / "cache"
        digest = extract(wanted.name, wanted.dir, cache)
        opened = open_dataset(
            digest,
            cache,
            num_val=wanted.num_val,
            num_train=wanted.num_train,
            split_seed=wanted.split_seed,
        )
        about = {
            "name": wanted.name,
            "sha256": digest,
            "source": wanted.dir or wanted.name,
            "train": len(opened.train),
            "val": 0 if opened.val is None else len(opened.val),
            "test": len(opened.test),
            "image_shape": list(opened.image_shape),
            "classes": opened.classes,
        }
        prepared.append(Prepared(job, sweep.run_key(job.config, digest), about))
    return prepared


def freeze(prepared: list[Prepared], overrides: list[str], *, is_sweep: bool, fresh: bool) -> Plan:
    """Make the run folders and, for a sweep, write its plan.

    A sweep builds on runs with the same keys, unless `fresh`: finished ones are done, others go on.
    """
    outputs = Path(prepared[0].job.config.outputs)
    plan_id = sweep.sweep_id([each.key for each in prepared])
    # `threads=1,2` is a sweep as well, although it changes no result.
    swept = {name for each in prepared for name in each.job.swept}
    also = sorted(name for name in swept if not sweep.determines_result(name))
    existing = runs.by_key(outputs, also) if is_sweep and not fresh else {}
    planned = [
        one(
            each,
            overrides,
            existing,
            (plan_id, f"{number}/{len(prepared)}") if is_sweep else None,
            also,
        )
        for number, each in enumerate(prepared, 1)
    ]
    plan = Plan(plan_id, tuple(overrides), tuple(planned))
    if is_sweep:
        plan.save(outputs)
    return plan


def one(
    prepared: Prepared,
    overrides: list[str],
    existing: dict[runs.Key, Path],
    member: tuple[str, str] | None,
    also: Collection[str] = (),
) -> SweepJob:
    """The run folder of one job: the existing one of its key, or a new one.

    member: the sweep it belongs to and its place there; also: settings beside its key.
    """
    params = configuration.leaves(prepared.job.config)
    folder = existing.get(runs.key(prepared.key, params, also))
    tags = _common_tags(overrides)
    tags |= {"run_key": prepared.key, "data.sha256": str(prepared.dataset["sha256"])}
    if member is not None:
        tags |= {"sweep": member[0], "sweep.job": member[1]}
    job = prepared.job
    if folder is None:
        identity = runs.Identity(job.name, tags, prepared.dataset)
        folder = runs.create(Path(job.config.outputs), job.config, identity)
    elif member is not None and not runs.is_live(folder):
        runs.join_sweep(folder, *member)
    return SweepJob(folder.name, job.name, job.swept, prepared.key)


@cache
def _source() -> environment.Commit | None:
    return environment.commit()


def _common_tags(overrides: list[str]) -> dict[str, str]:
    source = _source()
    tags = {
        "mlflow.user": getpass.getuser(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": " ".join(["python -m harness.run", *overrides]),
        "git.dirty": "unknown" if source is None else str(source.dirty).lower(),
    }
    if source is not None:
        tags["mlflow.source.git.commit"] = source.sha
    return tags


def resumed(outputs: Path, run: str) -> tuple[Plan, Config]:
    """The plan that continues one interrupted run. Raises `ValueError`."""
    folder = runs.find(outputs, run)
    told = journal.history(folder)
    if told.status == "FINISHED":
        raise ConfigError(f"resume={run}: {folder.name} is finished; there is nothing to continue")
    if runs.is_live(folder):
        raise ConfigError(f"resume={run}: {folder.name} is being trained at this moment")
    job = SweepJob(folder.name, told.create["name"], {}, told.tags["run_key"])
    return Plan("", (), (job,)), configuration.read_yaml(folder / runs.CONFIG)
