"""Options that several commands have, and how a command refuses bad input."""

import sys
from pathlib import Path
from typing import NoReturn

import click

from harness.runfolder.status import ExitStatus

OUTPUTS = click.option(
    "--outputs",
    type=click.Path(path_type=Path),
    default=Path("outputs"),
    show_default=True,
    help="The folder of everything generated.",
)
URI = click.option("--uri", default=None, help="Another tracking store than the one in outputs.")
RUN = click.option("--run", default=None, help="A run id or a prefix of one; `last` is the newest.")
TEST_SHARE = click.option("--test", default=0.2, show_default=True, help="Share of test images.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def refuse(error: Exception) -> NoReturn:
    """Print one line and exit with status 2."""
    click.echo(f"error: {error}", err=True)
    sys.exit(ExitStatus.BAD_INPUT)
