"""What `python -m harness.run` does: compose, validate, freeze, launch, follow, report."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from harness.run import compose as launch
from harness.run import execute as execution
from harness.run import freeze, signals
from harness.run.compose import CommandKeys, Job
from harness.run.launcher_schema import Engines, OptunaSweeper
from harness.run.launchers import local as launchers
from harness.run.launchers.prestart import Spares
from harness.run.summary import BAD_INPUT, DONE, FAILED
from harness.runfolder import config as configuration
from harness.runfolder import folder as runs
from harness.runfolder.config import ConfigError


def command(arguments: list[str], spares: Spares) -> int:
    """The command line; returns the exit status. spares: what it may train with."""
    parser = argparse.ArgumentParser(prog="python -m harness.run", add_help=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--cfg", "-c", choices=["job"])
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    parser.add_argument("overrides", nargs="*")
    parser.error = _refuse  # type: ignore[method-assign]  # our own exit: one line, status 2
    parsed = parser.parse_intermixed_args(arguments)
    overrides = parsed.overrides
    if parsed.help:
        from harness.run import help as manual

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
        carry_out = _prepare(overrides, special, spares, is_sweep=parsed.multirun)
    except (ValueError, OSError) as error:
        signals.raise_again()
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT if isinstance(error, ValueError) else FAILED
    signals.raise_again()
    return carry_out()


def _prepare(
    overrides: list[str], special: CommandKeys, spares: Spares, *, is_sweep: bool
) -> Callable[[], int]:
    """Check and freeze everything; what is left to do is returned. Raises `ValueError`."""
    typed = [*(["-m"] if is_sweep else []), *overrides]
    overrides, engines = launch.take_engines(overrides)
    if isinstance(engines.sweeper, OptunaSweeper):
        from harness.run.search import search as searching

        search = searching.check(engines.sweeper, overrides, typed, special)
        launchers.check(engines.launcher, execution.threads(search.base), is_sweep=is_sweep)
        searching.begin(search)
        return partial(execution.carry_out_search, search, engines, spares)
    if special.resume is not None:
        outputs = _outputs_of(overrides, is_sweep=is_sweep)
        launchers.check(engines.launcher, 1, is_sweep=is_sweep)
        runs.close_dead(outputs)
        plan, config = freeze.resumed(outputs, special.resume)
    else:
        jobs = _checked(overrides, engines, is_sweep=is_sweep)
        prepared = freeze.prepare(jobs)
        config = jobs[0].config
        outputs = Path(config.outputs)
        runs.close_dead(outputs)
        plan = freeze.freeze(prepared, typed, is_sweep=is_sweep, fresh=special.fresh)
        plan = plan if is_sweep else replace(plan, id="")
    return partial(execution.carry_out, plan, config, outputs, engines, spares)


def _checked(overrides: list[str], engines: Engines, *, is_sweep: bool) -> list[Job]:
    """Everything that can be wrong is found here, before anything is created."""
    jobs = launch.expand(overrides, sweep=is_sweep)
    for job in jobs:
        configuration.check(job.config)
    unique: dict[str, Job] = {}  # `backend=auto,numba` may come to one
    for job in map(freeze.with_backend, jobs):
        unique.setdefault(configuration.to_yaml(job.config), job)
    jobs = list(unique.values())
    _check_common(jobs)
    threads = max(execution.threads(job.config) for job in jobs)
    launchers.check(engines.launcher, threads, is_sweep=is_sweep)
    return jobs


def _outputs_of(overrides: list[str], *, is_sweep: bool) -> Path:
    others = [text for text in overrides if not text.startswith("outputs=")]
    if others or is_sweep:
        what = "-m" if is_sweep else others[0]
        raise ConfigError(
            f"{what}: resume continues a run with its own frozen settings, so only outputs=FOLDER "
            "may stand beside it; start a new run to change anything"
        )
    return Path(overrides[-1].split("=", 1)[1]) if overrides else Path("outputs")


def _check_common(jobs: list[Job]) -> None:
    for key in ("outputs", "tracking.name", "tracking.uri"):
        values = {configuration.leaves(job.config)[key] for job in jobs}
        if len(values) > 1:
            raise ConfigError(f"{key}: cannot be swept; give every job the same, found {values}")


def _refuse(message: str) -> NoReturn:
    print(f"error: {message}; --help shows what there is", file=sys.stderr)
    sys.exit(BAD_INPUT)
