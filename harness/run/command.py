"""What `python -m harness.run` does: compose, validate, freeze, execute, summarize."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import NoReturn

from harness.data.atomic import explained
from harness.run import compose, conf, hook, misplaced_keys, overrides, signals, tasks
from harness.run.completion import shell_completion
from harness.run.engines import compose_engines
from harness.run.launcher_schema import OptunaSweeper
from harness.run.launchers.prestart import Prestart
from harness.run.overrides import CommandLine
from harness.run.tasks import Task
from harness.runfolder import config as configuration
from harness.runfolder import environment, folder, streams
from harness.runfolder.config import ConfigError
from harness.runfolder.optional import attempt
from harness.runfolder.plan import load_plan
from harness.runfolder.status import ExitStatus


def command(arguments: list[str], prestart: Prestart) -> ExitStatus:
    """Run the command line. prestart: the pre-started job processes."""
    environment.ensure_home()
    parsed = _parser().parse_intermixed_args(arguments)
    try:
        Path.cwd()
    except FileNotFoundError:
        print("error: the working directory was removed; change to another one", file=sys.stderr)
        return ExitStatus.BAD_INPUT
    try:
        if len(parsed.config_dir) > 1:
            given = " ".join(f"--config-dir {each}" for each in parsed.config_dir)
            raise ConfigError(f"{given}: expected one folder; put your own files together in it")
        with conf.including(parsed.config_dir):
            return _obey(parsed, prestart)
    except ConfigError as error:  # about --config-dir
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
        task = tasks.prepare(line, typed, prestart, is_sweep=parsed.multirun)
        if parsed.ids:  # called by harness.train or harness.sweep, which keep stdin open
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
    """Call the command or URL of `on_end`."""
    plan = None if task.sweep is None else load_plan(task.outputs, task.sweep)
    if plan is None:
        runs = [folder.open_run(task.outputs, each) for each in task.runs]
    else:
        runs = plan.readable_runs(task.outputs)
    report = task.outputs / "reports" / (task.sweep or "") / "index.html"
    hook.call(target, hook.summary(status, typed, runs, plan, report))


def _print(text: str) -> ExitStatus:
    """Print a text; returns FAILED if it could not be written."""
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
    jobs = tasks.check(line, engines, is_sweep=is_sweep, is_preview=True)
    notes = [tasks.unwritable(Path(jobs[0].config.outputs))]
    if line.limits.until:
        from harness.run import until

        notes.append(until.rest(jobs, line.limits))
        jobs = until.first_round(jobs)
    planned = preview.planned(jobs, accept=line.accept, reuse=is_sweep and not line.fresh)
    return preview.text(planned, engines.launcher, "\n".join(filter(None, notes)))


def _refuse(message: str) -> NoReturn:
    print(f"error: {message}; see --help", file=sys.stderr)
    sys.exit(ExitStatus.BAD_INPUT)
