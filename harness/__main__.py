"""Every command but training: `python -m harness COMMAND`, also installed as `harness`.

Each command is a function in the module of the same name under `harness/commands`.
"""

import ast
import gc
import os
import sys

from harness.run import signals

if __name__ == "__main__":
    signals.exit_at_the_first()  # the imports below take a tenth of a second

from importlib import import_module
from pathlib import Path
from typing import Any

import click

from harness.data.atomic import explained
from harness.runfolder import ending, environment, streams
from harness.runfolder.status import ExitStatus
from harness.tracking.environment import set_up

COMMANDS = (
    "new", "status", "watch", "note", "tag", "compare", "diff", "ui", "sync", "results", "export",
    "confirm", "reproduce", "stop", "archive", "rm", "restore", "gc", "clean", "du", "pack",
    "merge", "predict", "register", "evaluate", "import-images", "import-csv", "serve",
)  # fmt: skip


class Commands(click.Group):
    """A click group that imports a command only when it is needed."""

    def list_commands(self, context: click.Context) -> list[str]:
        """The names of the commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import a command; None for an unknown name."""
        if name not in COMMANDS:
            return None
        function = name.replace("-", "_")
        command = getattr(import_module(f"harness.commands.{function}"), function)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, context: click.Context) -> Any:
        """Run the command; Ctrl-C exits with status 130 and prints nothing."""
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            sys.exit(ExitStatus.INTERRUPTED)
        except SystemExit as end:
            if (problem := ending.problem(end)) is None:
                raise
            print(f"error: {problem}", file=sys.stderr)
            sys.exit(ExitStatus.FAILED)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them, which takes a second."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(name)) for name in COMMANDS])


def summary(name: str) -> str:
    """The first line of a command's docstring, read from its source."""
    function = name.replace("-", "_")
    source = (Path(__file__).parent / f"commands/{function}.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return (ast.get_docstring(node) or "").splitlines()[0]
    raise AssertionError(f"commands/{function}.py has no function {function}")


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="scratch-harness")
def main() -> None:
    """Inspect, compare and use runs. Training is `python -m harness.run`."""


def console_script() -> None:
    """The console script `harness`: `main` with safe output, and no traceback for an `OSError`.

    If the reader closes the pipe, the command exits without a message. If the output cannot be
    written, it fails.
    """
    signals.raise_at_the_first()
    streams.protect()
    ending.guard()
    environment.ensure_home()
    set_up(os.environ)
    status: str | int | None = ExitStatus.DONE
    try:
        main()
    except SystemExit as end:
        status = end.code
    except OSError as error:
        print(f"error: {explained(error)}", file=sys.stderr)
        status = ExitStatus.FAILED
    if lost := streams.lost():
        print(f"error: standard output: {lost.strerror}", file=sys.stderr)
        status = status or ExitStatus.FAILED
    gc.freeze()  # with MLflow, the final garbage collection would take 0.7 s
    sys.exit(status)


if __name__ == "__main__":
    console_script()
