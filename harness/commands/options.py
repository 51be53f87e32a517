"""Options shared by several commands, and the exit of a command on bad input."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from harness.data.atomic import explained
from harness.runfolder.selection import Selection, select
from harness.runfolder.status import ExitStatus
from harness.runfolder.target import problem, shown


def refuse(error: Exception) -> NoReturn:
    """Print the error as one line and exit with status 2."""
    click.echo(f"error: {explained(error)}", err=True)
    sys.exit(ExitStatus.BAD_INPUT)


def check_uri(context: click.Context, option: click.Parameter, uri: str | None) -> str | None:
    """The address of a store as it was typed. Exits if it cannot be one."""
    if uri and (wrong := problem(uri, is_kept=option.name == "to")):
        refuse(ValueError(f"{option.opts[0]} {shown(uri)}: {wrong}"))
    return uri


def expanded(context: click.Context, option: click.Parameter, folder: Path) -> Path:
    """The folder of an option; a shell leaves the `~` of `--outputs=~/runs` as it is."""
    return Path(os.path.expanduser(folder))  # noqa: PTH111  # `Path` raises without a home


def single(context: click.Context, option: click.Parameter, folders: tuple[Path, ...]) -> Path:
    """The one folder of a command that writes. Exits if several are given."""
    if len(folders) > 1:
        given = " ".join(f"--outputs {folder}" for folder in folders)
        refuse(ValueError(f"{given}: this command takes one folder; give one"))
    return expanded(context, option, folders[0])


def present(context: click.Context, option: click.Parameter, folders: tuple[Path, ...]) -> Path:
    """The one folder of a command; exits if it does not exist, because it may be mistyped."""
    folder = single(context, option, folders)
    if not folder.is_dir():
        refuse(
            ValueError(
                f"--outputs {folder}: there is no such folder; give the one that holds your runs"
            )
        )
    return folder


def at_rest(outputs: Path, words: tuple[str, ...], to_do: str) -> Selection:
    """The runs that the words select. Raises `ValueError` for none, or if one is being trained.

    to_do: the action on the runs, such as `archive`.
    """
    chosen = select(outputs, words)
    if not chosen.runs:
        raise ValueError(f"{chosen.title}: there are no runs to {to_do}")
    if live := [run.id for run in chosen.runs if run.is_training()]:
        raise ValueError(f"{live[0]} is still training; wait for it to finish, or stop it")
    return chosen


def every(
    context: click.Context, option: click.Parameter, folders: tuple[Path, ...]
) -> tuple[Path, ...]:
    """The folders of an option that may be repeated. Exits unless each is one."""
    found = tuple(expanded(context, option, folder) for folder in folders)
    for folder in found if len(found) > 1 else ():
        if not folder.is_dir():
            refuse(ValueError(f"--outputs {folder}: expected a folder"))
    return found


def include(context: click.Context, option: click.Parameter, folders: tuple[str, ...]) -> None:
    """Find modules in these folders as well, until the command ends."""
    if folders:
        from harness.run.conf import including  # which other commands do not need

        try:
            context.with_resource(including(folders))
        except ValueError as error:
            refuse(error)


def confirmed(question: str, *, yes: bool) -> bool:
    """Ask once. Raises `ValueError` without a terminal, unless `--yes` is given."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ValueError("cannot ask for confirmation without a terminal; use --yes")
    return click.confirm(question)


def counted(
    name: str, default: int, what: str, *, least: int = 1
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """An option whose value is an integer. what: its help."""

    def check(context: click.Context, option: click.Parameter, given: str | int) -> int:
        try:
            number = int(given)
        except ValueError:
            number = least - 1
        if number < least:
            wrong = f"{name} {given}: expected a whole number of at least {least}"
            refuse(ValueError(wrong))
        return number

    return click.option(
        name,
        type=click.UNPROCESSED,
        callback=check,
        default=default,
        show_default=True,
        metavar="N",
        help=what,
    )


def limited(default: int, what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option `--limit` of a command that lists only the first entries."""
    return counted("--limit", default, f"Show this many of the {what}.")


CONFIG_DIR = click.option(
    "--config-dir",
    "-cd",
    multiple=True,
    expose_value=False,
    callback=include,
    metavar="DIR",
    help="A folder with your own modules, beside the working directory.",
)


def _outputs(check: Callable[..., Path]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--outputs",
        type=click.Path(path_type=Path),
        multiple=True,
        callback=check,
        default=[Path("outputs")],
        show_default="outputs",
        help="The folder of all generated files.",
    )


OUTPUTS, PRESENT_OUTPUTS = _outputs(single), _outputs(present)
EVERY_OUTPUTS = click.option(
    "--outputs",
    type=click.Path(path_type=Path),
    multiple=True,
    callback=every,
    default=[Path("outputs")],
    show_default="outputs",
    help="The folder of all generated files; repeat it to read several as one.",
)
URI = click.option(
    "--uri",
    default=None,
    callback=check_uri,
    help="A tracking store other than the one in outputs.",
)
RUN = click.option(
    "--run", default=None, help="A run id, a unique prefix of one, `last`, or a registered name."
)
MEASURE = (
    click.option("--metric", metavar="NAME[:max]",
                 help="Rank the runs of any program by this metric; :max if higher is better."),
    click.option("--test-metric", metavar="NAME[:max]",
                 help="The metric to test; that of --metric when it is left out."),
    click.option("--seed-key", metavar="params.NAME",
                 help="The param, or tags.NAME, with the seed; nothing is paired without it."),
    click.option("--setting", "settings", multiple=True, metavar="PATTERN",
                 help="The params that make a setting, such as 'params.opt*'; may be repeated; all "
                 "params but the seed when it is left out."),
)  # fmt: skip


def measured(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options `MEASURE` to a command; it gets a `Measure` or None as `measure`."""

    @functools.wraps(command)
    def run(
        *given: Any, metric: str | None, test_metric: str | None, seed_key: str | None,
        settings: tuple[str, ...], **named: Any,
    ) -> None:  # fmt: skip
        from harness.analysis.measure import Measure  # which most commands do not need

        try:
            measure = Measure.of(metric, test_metric, seed_key, settings)
        except ValueError as error:
            refuse(error)
        command(*given, measure=measure, **named)

    for option in reversed(MEASURE):
        run = option(run)
    return run


TEST_SHARE = click.option(
    "--test", default=0.2, show_default=True, help="Fraction of test examples."
)
YES = click.option("--yes", is_flag=True, help="Do it without asking.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
