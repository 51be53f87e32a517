"""Refuse the command's own keys where they have no effect, with a line that says why."""

from collections.abc import Iterator

from harness.run import costs
from harness.run.overrides import CommandLine
from harness.runfolder.about import About
from harness.runfolder.config import ConfigError


def check(line: CommandLine, *, is_sweep: bool, is_search: bool = False) -> None:
    """Refuse keys of the command that do nothing there. Raises `ConfigError` for the first."""
    for problems in (
        _of_repeating(line, is_sweep=is_sweep, is_search=is_search),
        _of_comparing(line, is_sweep=is_sweep),
        _of_a_file(line, is_sweep=is_sweep, is_search=is_search),
    ):
        for problem in problems:
            raise ConfigError(problem)


def _of_repeating(line: CommandLine, *, is_sweep: bool, is_search: bool) -> Iterator[str]:
    """`accept`, `until` and its limits; a search also has some of them."""
    if line.accept and (is_search or not is_sweep):
        why = "a search is refused when its source changed" if is_search else "only a sweep does"
        yield f"accept=source: keeps finished runs of a repeated sweep; {why}"
    limits = line.limits
    if limits.until and (is_search or not is_sweep):
        why = "a search chooses its own jobs" if is_search else "add -m"
        yield f"until=decided: adds seeds to the settings of a sweep; {why}"
    if limits.given and not limits.until and not is_search:
        yield f"{limits.given[0]}: limits until=decided, or a search; give one of them as well"
    if limits.max_jobs is not None and is_search:
        yield f"max_jobs={limits.max_jobs}: a search has hydra.sweeper.n_trials"


def _of_comparing(line: CommandLine, *, is_sweep: bool) -> Iterator[str]:
    """`question` and several objectives, which compare settings; notes on a run."""
    if line.about.question and not is_sweep:
        yield f"question={line.about.question}: only a sweep decides one; add -m"
    if line.costs and not is_sweep:
        yield (
            f"{costs.typed(line.costs)}: several objectives compare the settings of a sweep; add "
            "-m, or give one"
        )
    if line.costs and line.limits.until:
        yield (
            f"{costs.typed(line.costs)}: until=decided looks for one best setting; give one "
            "objective"
        )
    if line.about != About() and line.resume is not None:
        yield (
            f"resume={line.resume}: the run keeps its name and note; `python -m harness note` "
            "changes a note"
        )


def _of_a_file(line: CommandLine, *, is_sweep: bool, is_search: bool) -> Iterator[str]:
    """`sweep`, the file of a sweep."""
    if line.sweep is None:
        return
    if line.resume is not None:
        yield (
            f"sweep={line.sweep}: resume continues one run; leave resume out: a repeated sweep "
            "continues its runs"
        )
    if is_search:
        yield (
            f"sweep={line.sweep}: a search chooses its own values; leave sweep or "
            "hydra/sweeper=optuna out"
        )
    if not is_sweep:
        yield f"sweep={line.sweep}: a file of several jobs; add -m before it"
