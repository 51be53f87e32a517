"""The signature door: compose, validate, freeze, launch, follow, report.

    python -m harness.run [KEY=VALUE ...]              one run
    python -m harness.run -m batch=16,64,128           a sweep

Exit status: 0 done and delivered, 1 a job failed, 2 bad input, 3 trained but not yet delivered,
130 interrupted.
"""

import argparse
import getpass
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from harness import config as configuration
from harness import environment, launch, runs, sweep
from harness.config import ConfigError
from harness.launch import Job
from harness.sweep import Plan, SweepJob

UI = "http://127.0.0.1:5000"
DONE, FAILED, BAD_INPUT, UNDELIVERED, INTERRUPTED = 0, 1, 2, 3, 130


@dataclass(frozen=True)
class Prepared:
    """A job whose data is in the cache. dataset: what its journal says of the data set."""

    job: Job
    key: str
    dataset: dict[str, object]


def with_backend(job: Job) -> Job:
    """The job with its backend decided, so that the frozen config says what trains it."""
    from harness import build

    return replace(job, config=replace(job.config, backend=build.backend(job.config)))


def prepare(jobs: list[Job]) -> list[Prepared]:
    """Extract every data set that the jobs use and key the jobs. Raises `ValueError`."""
    from harness.data.dataset import open_dataset
    from harness.data.dataset import prepare as extract

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


def freeze(prepared: list[Prepared], overrides: list[str], *, is_sweep: bool) -> Plan:
    """Make the run folders and, for a sweep, write its plan. Finished runs of a sweep are
    reused."""
    outputs = Path(prepared[0].job.config.outputs)
    plan_id = sweep.sweep_id([each.key for each in prepared])
    finished = runs.finished_by_key(outputs) if is_sweep else {}
    source = environment.commit()
    common = {
        "mlflow.user": getpass.getuser(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": " ".join(["python -m harness.run", *overrides]),
        "git.dirty": "unknown" if source is None else str(source.dirty).lower(),
    }
    if source is not None:
        common["mlflow.source.git.commit"] = source.sha
    planned = []
    for number, each in enumerate(prepared, 1):
        tags = common | {"run_key": each.key, "data.sha256": str(each.dataset["sha256"])}
        if is_sweep:
            tags |= {"sweep": plan_id, "sweep.job": f"{number}/{len(prepared)}"}
        folder = finished.get(each.key)
        if folder is None:
            identity = runs.Identity(each.job.name, tags, each.dataset)
            folder = runs.create(outputs, each.job.config, identity)
        else:
            runs.join_sweep(folder, plan_id)
        planned.append(SweepJob(folder.name, each.job.name, each.job.swept, each.key))
    plan = Plan(plan_id, tuple(overrides), tuple(planned))
    if is_sweep:
        plan.save(outputs)
    return plan


def carry_out(plan: Plan, jobs: list[Job], *, is_sweep: bool) -> int:
    """Train what the plan has left, deliver, report. Returns the exit status."""
    from harness.tracking.delivery import Report
    from harness.tracking.process import DeliveryProcess
    from harness.tracking.store import Target

    first = jobs[0].config
    outputs = Path(first.outputs)
    folders = [runs.folder_of(outputs) / job.run for job in plan.jobs]
    delivery = None
    if first.tracking.name != "none":
        uri = first.tracking.uri if first.tracking.name == "server" else None
        delivery = DeliveryProcess(Target(uri) if uri else Target.local(outputs), outputs)
        for folder in folders:
            delivery.follow(folder)
    interrupted = False
    try:
        train(folders, draw=delivery is not None)
    except KeyboardInterrupt:
        interrupted = True
    report = delivery.close() if delivery is not None else Report()
    return tell(plan, folders, report, is_sweep=is_sweep, interrupted=interrupted)


def train(folders: list[Path], *, draw: bool) -> None:
    """Train the folders that are not finished, one after the other; pictures meanwhile."""
    from harness.jobs import JobProcess

    trained: list[Path] = []
    for folder in folders:
        if runs.is_finished(folder):
            continue
        with JobProcess(folder) as job:
            if draw:
                _draw(trained)
            job.wait()
        trained.append(folder)
    if draw:
        _draw(trained)


def _draw(trained: list[Path]) -> None:
    from harness import pictures  # importing what draws takes as long as a few epochs

    while trained:
        pictures.draw(trained.pop())


def tell(
    plan: Plan, folders: list[Path], report: object, *, is_sweep: bool, interrupted: bool
) -> int:
    """Print the table, where to look, and what is missing. Returns the exit status."""
    from harness import overview
    from harness.tracking.delivery import Report
    from harness.tracking.store import sweep_link
    from harness.training import journal

    assert isinstance(report, Report)
    histories = [journal.history(folder) for folder in folders]
    overview.show(overview.sweep_table(plan.jobs, histories))
    failed = [told for told in histories if told.status == "FAILED"]
    for told in failed:
        print(f"failed: {told.create['name']} ({told.run}): {told.error}", file=sys.stderr)
    if report.experiments:
        print(f"compare in the MLflow UI:  python -m harness ui   then open {UI}")
        if is_sweep:
            for experiment_id in report.experiments.values():
                print(f"this sweep's charts:       {sweep_link(UI, experiment_id, plan.id)}")
    for run, why in report.undelivered.items():
        print(f"not delivered yet: {run}: {why}", file=sys.stderr)
    if report.undelivered:
        print("`python -m harness sync` delivers the rest", file=sys.stderr)
    if interrupted:
        print("interrupted; the same command goes on where the sweep was", file=sys.stderr)
        return INTERRUPTED
    if failed or any(told.status != "FINISHED" for told in histories):
        return FAILED
    return UNDELIVERED if report.undelivered else DONE


def command(arguments: list[str]) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m harness.run", add_help=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--cfg", "-c", choices=["job"])
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    parser.add_argument("overrides", nargs="*")
    parser.error = _refuse  # type: ignore[method-assign]  # our own exit: one line, status 2
    parsed = parser.parse_intermixed_args(arguments)
    overrides, is_sweep = parsed.overrides, parsed.multirun
    if parsed.help:
        print(launch.help_text())
        return DONE
    if parsed.shell_completion:
        launch.shell_completion(overrides)
        return DONE
    try:
        if parsed.cfg:
            print(launch.show_config(overrides), end="")
            return DONE
        jobs = launch.expand(overrides, sweep=is_sweep)
        for job in jobs:
            configuration.check(job.config)
        jobs = [with_backend(job) for job in jobs]
        _check_common(jobs)
        prepared = prepare(jobs)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    typed = [*(["-m"] if is_sweep else []), *overrides]
    plan = freeze(prepared, typed, is_sweep=is_sweep)
    return carry_out(plan, jobs, is_sweep=is_sweep)


def _check_common(jobs: list[Job]) -> None:
    for key in ("outputs", "tracking.name", "tracking.uri"):
        values = {configuration.leaves(job.config)[key] for job in jobs}
        if len(values) > 1:
            raise ConfigError(f"{key}: cannot be swept; give every job the same, found {values}")


def _refuse(message: str) -> NoReturn:
    print(f"error: {message}; --help shows what there is", file=sys.stderr)
    sys.exit(BAD_INPUT)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """The console script `harness-run`."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        sys.exit(command(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
