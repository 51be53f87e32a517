"""Options shared by several commands, and the exit of a command on bad input."""

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from harness.runfolder.status import ExitStatus
from harness.runfolder.target import problem, shown


def refuse(error: Exception) -> NoReturn:
    """Print the error as one line and exit with status 2."""
    click.echo(f"error: {error}", err=True)
    sys.exit(ExitStatus.BAD_INPUT)


def check_uri(context: click.Context, option: click.Parameter, uri: str | None) -> str | None:
    """The address of a store as it was typed; refuses what cannot be one."""
    if uri and (wrong := problem(uri, is_kept=option.name == "to")):
        refuse(ValueError(f"{option.opts[0]} {shown(uri)}: {wrong}"))
    return uri


def expanded(context: click.Context, option: click.Parameter, folder: Path) -> Path:
    """The folder of an option; a shell leaves the `~` of `--outputs=~/runs` as it is."""
    return Path(os.path.expanduser(folder))  # noqa: PTH111  # `Path` raises without a home


def include(context: click.Context, option: click.Parameter, folders: tuple[str, ...]) -> None:
    """Find modules in these folders as well, until the command ends."""
    if folders:
        from harness.run.conf import including  # which other commands do not need

        try:
            context.with_resource(including(folders))
        except ValueError as error:
            refuse(error)


def confirmed(question: str, *, yes: bool) -> bool:
    """Ask once. Raises `ValueError` where nobody can answer and `--yes` is not given."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ValueError("nobody can be asked here; type --yes to do it without asking")
    return click.confirm(question)


CONFIG_DIR = click.option(
    "--config-dir",
    "-cd",
    multiple=True,
    expose_value=False,
    callback=include,
    metavar="DIR",
    help="A folder with your own modules, beside the working directory.",
)
OUTPUTS = click.option(
    "--outputs",
    type=click.Path(path_type=Path),
    callback=expanded,
    default=Path("outputs"),
    show_default=True,
    help="The folder of all generated files.",
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
TEST_SHARE = click.option(
    "--test", default=0.2, show_default=True, help="Fraction of test examples."
)
YES = click.option("--yes", is_flag=True, help="Do it without asking.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
