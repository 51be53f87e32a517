"""The signature door: compose, validate, freeze, launch, follow, report.

    python -m harness.run [KEY=VALUE ...]              one run
    python -m harness.run -m batch=16,64,128           a sweep

Exit status: 0 done and delivered, 1 a job failed, 2 bad input, 3 trained but not yet delivered,
130 interrupted.
"""

import argparse
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from harness import config as configuration
from harness import freeze, launch, launchers, runs
from harness.config import ConfigError
from harness.engines import Engines, OptunaSweeper
from harness.launch import Job
from harness.launchers import QueueError
from harness.schema import Config
from harness.sweep import Plan
from harness.training import journal

if TYPE_CHECKING:
    from harness.search import Search
    from harness.tracking.delivery import Report
    from harness.tracking.process import DeliveryProcess

UI = "http://127.0.0.1:5000"
DONE, FAILED, BAD_INPUT, UNDELIVERED, INTERRUPTED = 0, 1, 2, 3, 130


def carry_out(plan: Plan, config: Config, outputs: Path, engines: Engines) -> int:
    """Train what the plan has left, deliver, report. Returns the exit status."""
    from harness.tracking.delivery import Report

    folders = [runs.folder_of(outputs) / job.run for job in plan.jobs]
    delivery = deliver(config, outputs)
    if delivery is not None:
        for folder in folders:
            delivery.follow(folder)
    interrupted = False
    try:
        train(folders, engines, outputs, draw=delivery is not None)
    except KeyboardInterrupt:
        interrupted = True
    except QueueError as error:
        print(f"error: {error}", file=sys.stderr)
    report = delivery.close() if delivery is not None else Report()
    return tell(plan, folders, report, interrupted=interrupted)


def carry_out_search(search: "Search", engines: Engines) -> int:
    """Go on with a search to its total of trials, deliver, report. Returns the exit status."""
    from harness import search as searching
    from harness import study
    from harness.tracking.delivery import Report

    runs.close_dead(search.outputs)
    delivery = deliver(search.base, search.outputs)
    launcher = launchers.create(engines.launcher, search.outputs, _threads(search.base))
    follow = delivery.follow if delivery is not None else ignore
    trials = searching.Trials(search, launcher, follow)
    interrupted = False
    try:
        trials.run()
    except KeyboardInterrupt:
        interrupted = True
    except QueueError as error:
        print(f"error: {error}", file=sys.stderr)
    folders = [runs.folder_of(search.outputs) / job.run for job in trials.plan.jobs]
    if delivery is not None and not interrupted:
        for folder in folders:
            draw_pictures(folder)
        study.draw(search, trials.study)
    report = delivery.close() if delivery is not None else Report()
    return tell(trials.plan, folders, report, interrupted=interrupted)


def deliver(config: Config, outputs: Path) -> "DeliveryProcess | None":
    """The delivery process to the store that the configuration names, if it names one."""
    from harness.tracking.process import DeliveryProcess
    from harness.tracking.store import Target

    if config.tracking.name == "none":
        return None
    uri = config.tracking.uri if config.tracking.name == "server" else None
    target = Target(uri) if uri else Target.local(outputs)
    return DeliveryProcess(target, outputs, config.tracking.patience)


def train(folders: list[Path], engines: Engines, outputs: Path, *, draw: bool) -> None:
    """Train the folders that are not finished, as the launcher does it; pictures meanwhile."""
    left = []
    for folder in folders:
        told = journal.history(folder)
        if told.status == "FINISHED":
            print(f"{told.create['name']}: finished before as {told.run}", flush=True)
        else:
            left.append(folder)
    if left:
        threads = max(launchers.threads(folder) for folder in left)
        launcher = launchers.create(engines.launcher, outputs, threads)
        launcher.run(left, draw_pictures if draw else ignore)


def ignore(folder: Path) -> None:
    """Nothing is to be done about this run."""


def draw_pictures(folder: Path) -> None:
    """Draw a run's pictures."""
    from harness import pictures  # importing what draws takes as long as a few epochs

    pictures.draw(folder)


def tell(plan: Plan, folders: list[Path], report: "Report", *, interrupted: bool) -> int:
    """Print the table, where to look, and what is missing. Returns the exit status."""
    from harness import overview
    from harness.tracking.store import sweep_link

    histories = [journal.history(folder) for folder in folders]
    overview.show(overview.sweep_table(plan.jobs, histories))
    failed = [told for told in histories if told.status == "FAILED"]
    for told in failed:
        print(f"failed: {told.create['name']} ({told.run}): {told.error}", file=sys.stderr)
        print(
            f"        more in {runs.folder_of(folders[0].parents[1]) / told.run}", file=sys.stderr
        )
    if report.experiments:
        print(f"compare in the MLflow UI:  python -m harness ui   then open {UI}")
        for experiment_id in report.experiments.values() if plan.id else ():
            print(f"this sweep's charts:       {sweep_link(UI, experiment_id, plan.id)}")
    for run, count in report.refused.items():
        print(f"{run}: the store refused {count} record(s), see its refused.jsonl", file=sys.stderr)
    for run, why in report.undelivered.items():
        print(f"not delivered yet: {run}: {why}", file=sys.stderr)
    if report.undelivered:
        print("`python -m harness sync` delivers the rest", file=sys.stderr)
    if interrupted:
        for told in histories:
            if told.status == "CREATED":
                print(f"not started: {told.create['name']}", file=sys.stderr)
        again = " ".join(["python -m harness.run", *plan.overrides])
        if not plan.id:
            again = f"python -m harness.run resume={folders[0].name}"
        print(f"interrupted; `{again}` goes on from here", file=sys.stderr)
        return INTERRUPTED
    if any(told.status != "FINISHED" and not runs.is_pruned(told) for told in histories):
        return FAILED
    return UNDELIVERED if report.undelivered or report.refused else DONE


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
        from harness import manual

        print(manual.help_text())
        return DONE
    if parsed.shell_completion:
        launch.shell_completion(overrides)
        return DONE
    try:
        if parsed.cfg:
            print(launch.show_config(launch.take_engines(overrides)[0]), end="")
            return DONE
        overrides, special = launch.take_command_keys(overrides)
        typed = [*(["-m"] if is_sweep else []), *overrides]
        overrides, engines = launch.take_engines(overrides)
        if isinstance(engines.sweeper, OptunaSweeper):
            from harness import search as searching

            search = searching.check(engines.sweeper, overrides, typed, special)
            launchers.check(engines.launcher, _threads(search.base))
            searching.begin(search)
            return carry_out_search(search, engines)
        if special.resume is not None:
            outputs = _outputs_of(overrides, is_sweep=is_sweep)
            runs.close_dead(outputs)
            launchers.check(engines.launcher, 1)
            plan, config = freeze.resumed(outputs, special.resume)
            return carry_out(plan, config, outputs, engines)
        jobs = launch.expand(overrides, sweep=is_sweep)
        for job in jobs:
            configuration.check(job.config)
        jobs = [freeze.with_backend(job) for job in jobs]
        _check_common(jobs)
        launchers.check(engines.launcher, max(_threads(job.config) for job in jobs))
        prepared = freeze.prepare(jobs)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    config = jobs[0].config
    outputs = Path(config.outputs)
    runs.close_dead(outputs)
    plan = freeze.freeze(prepared, typed, is_sweep=is_sweep, fresh=special.fresh)
    if not is_sweep:
        plan = replace(plan, id="")
    return carry_out(plan, config, outputs, engines)


def _outputs_of(overrides: list[str], *, is_sweep: bool) -> Path:
    others = [text for text in overrides if not text.startswith("outputs=")]
    if others or is_sweep:
        what = "-m" if is_sweep else others[0]
        raise ConfigError(
            f"{what}: resume continues a run with its own frozen settings, so only outputs=FOLDER "
            "may stand beside it; start a new run to change anything"
        )
    return Path(overrides[-1].split("=", 1)[1]) if overrides else Path("outputs")


def _threads(config: Config) -> int:
    """BLAS threads that a configuration insists on."""
    return 1 if config.threads == "auto" else config.threads


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
