"""What a command trains: a search, an interrupted run, a run, or the runs of a sweep.

Everything is checked before anything is created.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.atomic import allows, write_text
from harness.nn.compiled import numba_loading
from harness.run import compose, costs, execute, freeze, misplaced_keys, overrides, signals
from harness.run.compose import Job
from harness.run.engines import compose_engines
from harness.run.launcher_schema import Engines, OptunaSweeper, SlurmLauncher
from harness.run.launchers import choose
from harness.run.launchers.prestart import Prestart
from harness.run.overrides import CommandLine
from harness.runfolder import config as configuration
from harness.runfolder import folder
from harness.runfolder.config import ConfigError
from harness.runfolder.plan import Plan
from harness.runfolder.run import Run
from harness.runfolder.schema import Config
from harness.runfolder.status import ExitStatus
from harness.runfolder.target import Target
from harness.tracking import driver

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

    from harness.run.until import Deciding


@dataclass(frozen=True)
class Task:
    """What a command will do. runs: the ids of its runs; sweep: the id of its sweep or search."""

    carry_out: Callable[[], ExitStatus]
    outputs: Path
    runs: list[str]
    sweep: str | None = None

    def write_ids(self, path: Path) -> None:
        """Write the ids as JSON."""
        content = {"outputs": str(self.outputs), "runs": self.runs, "sweep": self.sweep}
        write_text(path, json.dumps(content))


def prepare(line: CommandLine, typed: list[str], prestart: Prestart, *, is_sweep: bool) -> Task:
    """Check and freeze everything. typed: the command. Raises `ValueError`."""
    engines = compose_engines(line.engines)
    sweeper = engines.sweeper
    is_search = isinstance(sweeper, OptunaSweeper)
    misplaced_keys.check(line, is_sweep=is_sweep, is_search=is_search)
    if isinstance(sweeper, OptunaSweeper):
        return _search(sweeper, line, typed, engines, prestart)
    if line.resume is not None:
        outputs = _outputs_of(line.settings, is_sweep=is_sweep)
        return _resumed(outputs, line.resume, engines, prestart)
    jobs = check(line, engines, is_sweep=is_sweep)
    signals.raise_at_the_first()
    prepared = freeze.prepare(jobs)
    if _is_numba_broken(prestart, [job.config for job in jobs]):
        jobs = check(line, engines, is_sweep=is_sweep)
        prepared = freeze.prepare(jobs)
    outputs = Path(jobs[0].config.outputs)
    folder.close_dead(outputs)
    if not is_sweep:
        run = freeze.freeze_run(prepared[0], typed, line.about)
        return _training([run], None, engines, prestart)
    if line.limits.until:
        from harness.run.until import Deciding

        deciding = Deciding(
            prepared, line.limits, typed, fresh=line.fresh, accept=line.accept, about=line.about
        )
        return _training(deciding.runs(), deciding.plan, engines, prestart, deciding)
    plan = freeze.freeze_sweep(
        prepared, typed, fresh=line.fresh, accept=line.accept, about=line.about, costs=line.costs
    )
    return _training(plan.runs(outputs), plan, engines, prestart)


def _training(
    runs: list[Run], plan: Plan | None, engines: Engines, prestart: Prestart,
    deciding: "Deciding | None" = None,
) -> Task:  # fmt: skip
    """The task of training these runs; plan, deciding: see `execute.execute`."""
    rest = partial(execute.execute, runs, plan, engines, prestart, deciding)
    return Task(rest, runs[0].outputs, [run.id for run in runs], None if plan is None else plan.id)


def _search(
    sweeper: OptunaSweeper, line: CommandLine, typed: list[str], engines: Engines,
    prestart: Prestart,
) -> Task:  # fmt: skip
    from harness.run.search import search as searching
    from harness.run.search import study

    search = searching.check(sweeper, line, typed)
    _check_energy(line, engines)
    _check_folder(search.outputs)
    _check_driver(_target_of(search.base))
    choose.check(engines.launcher, search.base.required_threads, is_sweep=True)
    search.storage.check()
    signals.raise_at_the_first()
    if _is_numba_broken(prestart, [freeze.with_backend(Job("", {}, search.base)).config]):
        search = searching.check(sweeper, line, typed)
    study.begin(search)
    rest = partial(execute.execute_search, search, engines, prestart)
    return Task(rest, search.outputs, [], search.id)


def _resumed(outputs: Path, prefix: str, engines: Engines, prestart: Prestart) -> Task:
    """The task of `resume=PREFIX`."""
    choose.check(engines.launcher, 1, is_sweep=False)
    _check_folder(outputs)
    signals.raise_at_the_first()
    folder.close_dead(outputs)
    run = freeze.interrupted_run(outputs, prefix)
    _check_driver(run.target())
    if _is_numba_broken(prestart, [run.config]):
        raise ConfigError(f"resume={prefix}: backend=numba: {numba_loading.fault()}")
    rest = partial(execute.execute, [run], None, engines, prestart, resumes=True)
    return Task(rest, outputs, [run.id])


def check(
    line: CommandLine, engines: Engines, *, is_sweep: bool, is_preview: bool = False
) -> list[Job]:
    """The jobs, fully validated before anything is created.

    is_preview: nothing will be created, so `outputs` need not be writable.
    """
    if line.sweep is not None:
        from harness.run import sweep_jobs

        jobs = sweep_jobs.expand(line.sweep, line.settings)
    else:
        jobs = compose.expand(line.settings, sweep=is_sweep)
        for job in jobs:
            with freeze.naming(job):
                configuration.check(job.config)
    decided = []
    for job in jobs:
        with freeze.naming(job):
            decided.append(freeze.with_backend(job))
    jobs = compose.different(decided)  # `backend=auto,numba` can be one job
    _check_common(jobs)
    if line.limits.until:
        from harness.run import until

        until.check(jobs, line.limits)
    if (why := unwritable(Path(jobs[0].config.outputs))) and not is_preview:
        raise ConfigError(why)
    _check_energy(line, engines)
    for job in jobs:
        with freeze.naming(job):
            costs.check(line.costs, job.config)
    _check_driver(_target_of(jobs[0].config))
    threads = max(job.config.required_threads for job in jobs)
    choose.check(engines.launcher, threads, is_sweep=is_sweep)
    return jobs


def _outputs_of(settings: "list[Override]", *, is_sweep: bool) -> Path:
    """The folder that `resume` looks in. Raises `ConfigError` for any other setting."""
    others = [
        each.input_line for each in settings if each.key_or_group != "outputs" or each.is_delete()
    ]
    if others or is_sweep:
        raise ConfigError(
            f"{'-m' if is_sweep else others[0]}: resume continues a run with its own frozen "
            "settings, so only outputs=FOLDER may be given with it; start a new run to change "
            "anything"
        )
    if not settings:
        return Path("outputs")
    return Path(configuration.expand_home("outputs", overrides.value_text(settings[-1])))


def _check_common(jobs: list[Job]) -> None:
    for key in ("outputs", "tracking.name", "tracking.uri"):
        values = {configuration.leaves(job.config)[key] for job in jobs}
        if len(values) > 1:
            raise ConfigError(f"{key}: cannot be swept; give every job the same, found {values}")


def _check_energy(line: CommandLine, engines: Engines) -> None:
    if not isinstance(engines.launcher, SlurmLauncher):  # its jobs run on other machines
        costs.check_energy(line.costs)


def _check_folder(outputs: Path) -> None:
    """Raise `ConfigError` unless runs can be made in outputs or its nearest existing parent."""
    if why := unwritable(outputs):
        raise ConfigError(why)


def unwritable(outputs: Path) -> str:
    """Why no runs can be made in outputs; empty if they can.

    Raises `ConfigError` for a file, and for a broken link, such as to a disk that is not mounted.
    """
    runs = folder.runs_folder(outputs)
    # `allows` is also False for a path that this process has no permission to look at.
    there = next(
        each for each in (runs, *runs.parents) if allows(each, os.F_OK) or each.is_symlink()
    )
    if not allows(there, os.F_OK):
        raise ConfigError(
            f"outputs={outputs}: {there} is a link to {there.readlink()}, which is not there; make "
            "that folder, or name another one"
        )
    if not there.is_dir():
        raise ConfigError(f"outputs={outputs}: {there} is a file; name a folder")
    if allows(there):
        return ""
    return f"outputs={outputs}: {there.absolute()} cannot be written to; name another folder"


def _target_of(config: Config) -> Target | None:
    return Target.of(config.tracking.name, config.tracking.uri, Path(config.outputs))


def _check_driver(target: Target | None) -> None:
    """Raise `ConfigError` if nothing can be delivered because a database driver is missing."""
    if target is not None and (why := driver.obstacle(target.uri)):
        raise ConfigError(f"tracking.uri={target}: {why}")


def _is_numba_broken(prestart: Prestart, configs: list[Config]) -> bool:
    """Whether a pre-started process failed to load Numba and a configuration uses it.

    Called last, because it waits for that process. Later checks then treat Numba as broken.
    """
    if all(getattr(config, "backend", None) != "numba" for config in configs):
        return False
    failure = prestart.numba_failure()
    if failure:
        numba_loading.note(failure)
    return bool(failure)
