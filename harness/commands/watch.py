"""`python -m harness watch`: show the progress of runs live in the terminal."""

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from math import ceil
from pathlib import Path

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from harness.commands.keyboard import DOWN, ESCAPE, UP, Wait, keyboard
from harness.commands.options import EVERY_OUTPUTS, refuse
from harness.data.atomic import explained
from harness.data.override import in_quotes
from harness.run.fitted_table import show
from harness.run.launchers.job_process import LOG
from harness.run.standing import Standing
from harness.run.standing_table import standing_table, state
from harness.run.watched import Watched
from harness.runfolder import interpreter, streams
from harness.runfolder.plan import Plan
from harness.runfolder.run import Run
from harness.runfolder.selection import Folders, Unknown, listed
from harness.runfolder.status import RunStatus

TICK_S = 1.0
LIST_EVERY_S = 5.0  # looks for new trials of a search and new runs of a selection
KEYS = "up, down: choose a run   s: stop it   r: continue it   q: end this display"
CONTINUED = (RunStatus.FAILED, RunStatus.KILLED)


@click.command()
@click.argument("selection", nargs=-1)
@EVERY_OUTPUTS
def watch(selection: tuple[str, ...], outputs: tuple[Path, ...]) -> None:
    """Show the progress of SELECTION, by default the newest sweep or run, until you press q.

    SELECTION is as for `compare`. Keys: up and down choose a run, `s` stops it after its current
    epoch, `r` continues a stopped or failed run, `q` quits; the runs continue. In a pipe, the
    table is printed once.
    """
    try:
        board = Board(outputs, selection or ("last",))
    except ValueError as error:
        if isinstance(error, Unknown) and not selection:  # nobody typed `last`
            where = ", ".join(map(str, listed(outputs)))
            why = "no sweep or run to watch yet; start one with `python -m harness.run`"
            error = ValueError(f"{where}: {why}")
        refuse(error)
    console = streams.console()
    if console.is_terminal and sys.stdin.isatty():
        with keyboard() as wait:
            _live(board, console, wait)
    watched = board.watched
    print(watched.heading())
    show(standing_table(watched.rows, watched.names))


def _live(board: "Board", console: Console, wait: Wait) -> None:
    """Draw the board every second and handle keys until one quits."""
    listed = time.monotonic()
    screen = Live(
        board.screen(console), console=console, screen=True, auto_refresh=False,
        vertical_overflow="crop", redirect_stdout=False,  # redirecting would hide its encoding
    )  # fmt: skip
    with suppress(KeyboardInterrupt), screen as live:
        while (key := wait(TICK_S)) not in ("q", "Q", ESCAPE):
            if key is not None:
                board.press(key)
            if time.monotonic() - listed > LIST_EVERY_S:
                board.list()
                listed = time.monotonic()
            board.watched.read()
            live.update(board.screen(console), refresh=True)


class Board:
    """The watched runs on a screen, with a chosen row and a message."""

    def __init__(self, outputs: Folders, words: Sequence[str]) -> None:
        """Raises `ValueError` if the words select no run."""
        self.watched = Watched(outputs, words)
        self._chosen, self._message = "", ""

    def list(self) -> None:
        """Look for new runs, or show why none can be listed."""
        try:
            self.watched.list()
        except ValueError as error:
            self._message = str(error)

    def press(self, key: str) -> None:
        """Handle a key."""
        at, rows = self._at(), self.watched.rows
        if key in (UP, DOWN) and rows:
            at = min(max(0, at + (1 if key == DOWN else -1)), len(rows) - 1)
            self._chosen, self._message = rows[at].history.run, ""
        elif key in ("s", "r") and rows:
            run = self.watched.run(rows[at])
            try:
                plan = self.watched.plan
                self._message = _stop(run) if key == "s" else _continue(run, rows[at], plan)
            except OSError as error:
                self._message = f"{run.id}: {explained(error)}"

    def _at(self) -> int:
        """The index of the chosen row."""
        ids = [each.history.run for each in self.watched.rows]
        return ids.index(self._chosen) if self._chosen in ids else 0

    def screen(self, console: Console) -> Group:
        """The whole screen: as many rows around the chosen one as fit in the terminal."""
        watched, at, room = self.watched, self._at(), max(1, console.height - 5)
        rows = watched.rows
        count = min(len(rows), room)
        while True:
            first = min(max(0, at - count // 2), len(rows) - count)
            table = standing_table(rows[first : first + count], watched.names, mark=at - first)
            excess = len(console.render_lines(table, pad=False)) - room
            if excess <= 0 or count <= 1:
                break
            count = max(1, count - ceil(excess / 2))  # a row may have several lines
        hidden = len(rows) - count
        more = f"{hidden} more above or below\n" if hidden else ""
        return Group(Text(watched.heading()), table, Text(f"{more}{self._message}\n{KEYS}"))


def _stop(run: Run) -> str:
    """Ask a run to stop after its epoch; returns what to show."""
    if not run.is_live():
        return f"{run.id}: nothing trains it at this moment"
    run.request_stop()
    return f"{run.id}: stops after its current epoch"


def _continue(run: Run, standing: Standing, plan: Plan | None) -> str:
    """Start a process that continues a run; returns what to show. plan: its sweep's plan."""
    if standing.status not in CONTINUED or standing.history.is_pruned:
        return f"{run.id}: {state(standing)}, so there is nothing to continue"
    if plan is not None and plan.is_on_slurm:
        return f"{run.id}: repeat its command, which gives it to Slurm again"
    words = (f"resume={run.id}", f"outputs={in_quotes(str(run.outputs))}")
    with (run.folder / LOG).open("ab") as log:
        subprocess.Popen(
            [*interpreter.running("harness.run"), *words],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    return f"{run.id}: continues; its output goes to {run.folder / LOG}"
