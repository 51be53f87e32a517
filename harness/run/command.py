"""What `python -m harness.run` does: compose, validate, freeze, execute, summarize."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harness.data.atomic import explained, write_text
from harness.nn.compiled import numba_loading
from harness.run import (
    compose,
    conf,
    costs,
    execute,
    freeze,
    hook,
    misplaced_keys,
    overrides,
    signals,
)
from harness.run.completion import shell_completion
from harness.run.compose import Job
from harness.run.engines import compose_engines
from harness.run.launcher_schema import Engines, OptunaSweeper
from harness.run.launchers import choose
from harness.run.launchers.prestart import Prestart
from harness.run.overrides import CommandLine
from harness.runfolder import config as configuration
from harness.runfolder import environment, folder, streams
from harness.runfolder.config import ConfigError
from harness.runfolder.optional import attempt
from harness.runfolder.plan import load_plan
from harness.runfolder.schema import Config
from harness.runfolder.status import ExitStatus
from harness.runfolder.target import Target
from harness.tracking import driver

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


@dataclass(frozen=True)
class Task:
    """What a command is about to do. runs: their ids; sweep: the id of the sweep or search."""

    carry_out: Callable[[], ExitStatus]
    outputs: Path
    runs: list[str]
    sweep: str | None = None

    def write_ids(self, path: Path) -> None:
        """Write the ids as JSON."""
        content = {"outputs": str(self.outputs), "runs": self.runs, "sweep": self.sweep}
        write_text(path, json.dumps(content))


def command(arguments: list[str], prestart: Prestart) -> ExitStatus:
    """Run the command line. prestart: the job processes it may train with."""
    environment.ensure_home()
    parsed = _parser().parse_intermixed_args(arguments)
    try:
        if len(parsed.config_dir) > 1:
            given = " ".join(f"--config-dir {each}" for each in parsed.config_dir)
            raise ConfigError(f"{given}: expected one folder; put your own files together in it")
        with conf.including(parsed.config_dir):
            return _obey(parsed, prestart)
    except ConfigError as error:  # of a folder
        print(f"error: {error}", file=sys.stderr)
        return ExitStatus.BAD_INPUT


def _obey(parsed: argparse.Namespace, prestart: Prestart) -> ExitStatus:
    try:
        if parsed.help:
            from harness.run import help as manual

            return _print(manual.help_text(overrides.parse(parsed.overrides).settings))
        if parsed.shell_completion:
            shell_completion(parsed.overrides)
            return ExitStatus.DONE
        line = overrides.parse(parsed.overrides)
        if parsed.dry_run:
            return _print(_preview(line, is_sweep=parsed.multirun))
        if parsed.cfg:
            misplaced_keys.check(line, is_sweep=False)
            job = compose.expand(line.settings, sweep=False)[0]
            streams.write_data(configuration.to_yaml(job.config).encode())
            return _written()
        typed = [*(["-m"] if parsed.multirun else []), *line.typed]
        task = _prepare(line, typed, prestart, is_sweep=parsed.multirun)
        if parsed.ids:  # harness.train or harness.sweep, which hold the other end of stdin
            task.write_ids(parsed.ids)
            signals.interrupt_at_end_of_input()
    except (ValueError, OSError) as error:
        signals.raise_again()
        print(f"error: {explained(error)}", file=sys.stderr)
        return ExitStatus.BAD_INPUT if isinstance(error, ValueError) else ExitStatus.FAILED
    signals.raise_again()
    status = task.carry_out()
    if line.on_end:
        attempt("on_end", partial(_tell, line.on_end, status, typed, task), None)
    return status


def _tell(target: str, status: ExitStatus, typed: list[str], task: Task) -> None:
    """Call what `on_end` names."""
    plan = None if task.sweep is None else load_plan(task.outputs, task.sweep)
    if plan is None:
        runs = [folder.open_run(task.outputs, each) for each in task.runs]
    else:
        runs = plan.readable_runs(task.outputs)
    report = task.outputs / "reports" / (task.sweep or "") / "index.html"
    hook.call(target, hook.summary(status, typed, runs, plan, report))


def _print(text: str) -> ExitStatus:
    """Print what the user asked for; FAILED when it could not be written."""
    print(text)
    return _written()


def _written() -> ExitStatus:
    return ExitStatus.FAILED if streams.lost() else ExitStatus.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.run", add_help=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    parser.add_argument("--ids", type=Path)
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--cfg", "-c", choices=["job"])
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    parser.add_argument("overrides", nargs="*")
    parser.error = _refuse  # type: ignore[method-assign]  # one line and exit status 2
    return parser


def _prepare(line: CommandLine, typed: list[str], prestart: Prestart, *, is_sweep: bool) -> Task:
    """Check and freeze everything. Raises `ValueError`."""
    engines = compose_engines(line.engines)
    is_search = isinstance(engines.sweeper, OptunaSweeper)
    misplaced_keys.check(line, is_sweep=is_sweep, is_search=is_search)
    if isinstance(engines.sweeper, OptunaSweeper):
        from harness.run.search import search as searching
        from harness.run.search import study

        search = searching.check(engines.sweeper, line, typed)
        _check_driver(_target_of(search.base))
        choose.check(engines.launcher, search.base.required_threads, is_sweep=is_sweep)
        search.storage.check()
        signals.raise_at_the_first()
        if _is_numba_broken(prestart, [freeze.with_backend(Job("", {}, search.base)).config]):
            search = searching.check(engines.sweeper, line, typed)
        study.agree(search, searching.start(search))
        rest = partial(execute.execute_search, search, engines, prestart)
        return Task(rest, search.outputs, [], search.id)
    if line.resume is not None:
        outputs = _outputs_of(line.settings, is_sweep=is_sweep)
        choose.check(engines.launcher, 1, is_sweep=is_sweep)
        signals.raise_at_the_first()
        folder.close_dead(outputs)
        run = freeze.interrupted_run(outputs, line.resume)
        _check_driver(run.target())
        if _is_numba_broken(prestart, [run.config]):
            raise ConfigError(f"resume={line.resume}: backend=numba: {numba_loading.fault()}")
        return Task(partial(execute.execute, [run], None, engines, prestart), outputs, [run.id])
    jobs = _checked(line, engines, is_sweep=is_sweep)
    signals.raise_at_the_first()
    prepared = freeze.prepare(jobs)
    if _is_numba_broken(prestart, [job.config for job in jobs]):
        jobs = _checked(line, engines, is_sweep=is_sweep)
        prepared = freeze.prepare(jobs)
    outputs = Path(jobs[0].config.outputs)
    folder.close_dead(outputs)
    if not is_sweep:
        run = freeze.freeze_run(prepared[0], typed, line.about)
        return Task(partial(execute.execute, [run], None, engines, prestart), outputs, [run.id])
    if line.limits.until:
        from harness.run.until import Deciding

        deciding = Deciding(
            prepared, line.limits, typed, fresh=line.fresh, accept=line.accept, about=line.about
        )
        runs = deciding.runs()
        rest = partial(execute.execute, runs, deciding.plan, engines, prestart, deciding)
        return Task(rest, outputs, [run.id for run in runs], deciding.plan.id)
    plan = freeze.freeze_sweep(
        prepared, typed, fresh=line.fresh, accept=line.accept, about=line.about, costs=line.costs
    )
    runs = plan.runs(outputs)
    rest = partial(execute.execute, runs, plan, engines, prestart)
    return Task(rest, outputs, [run.id for run in runs], plan.id)


def _preview(line: CommandLine, *, is_sweep: bool) -> str:
    """What `--dry-run` prints. Creates nothing. Raises `ValueError`."""
    from harness.run import preview

    engines = compose_engines(line.engines)
    is_search = isinstance(engines.sweeper, OptunaSweeper)
    if is_search or line.resume is not None:
        what = (
            "a search chooses its jobs while it runs" if is_search else "resume continues one run"
        )
        raise ConfigError(f"--dry-run: lists the jobs of a run or a sweep; {what}")
    misplaced_keys.check(line, is_sweep=is_sweep)
    jobs = _checked(line, engines, is_sweep=is_sweep)
    note = ""
    if line.limits.until:
        from harness.run.until import first_round

        jobs, note = first_round(jobs, line.limits)
    planned = preview.planned(jobs, accept=line.accept, reuse=is_sweep and not line.fresh)
    return preview.text(planned, engines.launcher, note)


def _checked(line: CommandLine, engines: Engines, *, is_sweep: bool) -> list[Job]:
    """The jobs, fully validated before anything is created."""
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
    jobs = compose.different(decided)  # `backend=auto,numba` may be one job
    _check_common(jobs)
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


def _target_of(config: Config) -> Target | None:
    return Target.of(config.tracking.name, config.tracking.uri, Path(config.outputs))


def _check_driver(target: Target | None) -> None:
    """Raise `ConfigError` if nothing can be delivered because a database driver is missing."""
    if target is not None and (why := driver.obstacle(target.uri)):
        raise ConfigError(f"tracking.uri={target}: {why}")


def _is_numba_broken(prestart: Prestart, configs: list[Config]) -> bool:
    """Whether a prepared process failed to load the Numba that a configuration uses.

    Asked last, because it waits for that process. From then on Numba is known to be broken.
    """
    if all(getattr(config, "backend", None) != "numba" for config in configs):
        return False
    failure = prestart.numba_failure()
    if failure:
        numba_loading.note(failure)
    return bool(failure)


def _refuse(message: str) -> NoReturn:
    print(f"error: {message}; see --help", file=sys.stderr)
    sys.exit(ExitStatus.BAD_INPUT)
