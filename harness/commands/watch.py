"""`python -m harness watch`: runs while they are trained, live in the terminal."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from math import ceil
from pathlib import Path

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from harness.commands.keyboard import DOWN, ESCAPE, UP, Wait, keyboard
from harness.commands.options import EVERY_OUTPUTS, refuse
from harness.data.atomic import explained
from harness.run.estimate import duration
from harness.run.launchers.job_process import LOG
from harness.run.standing import Standing, left_in_all_s, standings
from harness.run.standing_table import standing_table, state
from harness.run.summary import show
from harness.runfolder import streams
from harness.runfolder.history import History
from harness.runfolder.run import Run
from harness.runfolder.selection import Folders, Selection, Unknown, listed, select
from harness.runfolder.status import RunStatus

TICK_S = 1.0
LIST_EVERY_S = 5.0  # new trials of a search, new runs that a selection means
KEYS = "up, down: choose a run   s: stop it   r: continue it   q: end this display"
CONTINUED = (RunStatus.FAILED, RunStatus.KILLED)
ORDER = (RunStatus.RUNNING, *CONTINUED, RunStatus.DAMAGED, RunStatus.FINISHED, RunStatus.CREATED)


@click.command()
@click.argument("selection", nargs=-1)
@EVERY_OUTPUTS
def watch(selection: tuple[str, ...], outputs: tuple[Path, ...]) -> None:
    """Show how far the newest sweep or run is, or a SELECTION, until a key ends the display.

    SELECTION is as for `compare`. Keys: up and down choose a run, `s` stops it after its current
    epoch, `r` continues one that was stopped or that failed, `q` ends the display; the trainings
    go on. Into a pipe, the table is printed once.
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
    print(board.heading())
    show(standing_table(board.rows, board.names))


def _live(board: "Board", console: Console, wait: Wait) -> None:
    """Draw the board every second and obey keys, until one ends it."""
    listed = time.monotonic()
    screen = Live(
        board.screen(console), console=console, screen=True, auto_refresh=False,
        vertical_overflow="crop", redirect_stdout=False,  # which would hide its encoding
    )  # fmt: skip
    with suppress(KeyboardInterrupt), screen as live:
        while (key := wait(TICK_S)) not in ("q", "Q", ESCAPE):
            if key is not None:
                board.press(key)
            if time.monotonic() - listed > LIST_EVERY_S:
                board.list()
                listed = time.monotonic()
            board.read()
            live.update(board.screen(console), refresh=True)


class Board:
    """What is shown of the selected runs. rows: those that have begun, running ones first."""

    def __init__(self, outputs: Folders, words: Sequence[str]) -> None:
        """Raises `ValueError` when the words mean no run."""
        self._outputs, self._words = outputs, words
        self._chosen, self._message = "", ""
        self._known: dict[Path, tuple[tuple[int, int], History]] = {}
        self._selected = self._select()
        if not self._selected.runs:
            where = ", ".join(map(str, listed(outputs)))
            raise ValueError(f"{self._selected.title}: none of its runs is in {where}")
        self.read()

    def _select(self) -> Selection:
        return select(self._outputs, self._words)

    def list(self) -> None:
        """Look for new runs; those that were removed meanwhile are not shown any more."""
        try:
            self._selected = self._select()
        except ValueError as error:
            self._message = str(error)

    def read(self) -> None:
        """Read the journals that have grown."""
        runs = {run.id: run for run in self._selected.runs}
        histories = [found for run in runs.values() if (found := self._history(run)) is not None]
        self.all = standings(histories, lambda history: runs[history.run].is_live())
        begun = [each for each in self.all if each.status is not RunStatus.CREATED]
        self.rows = sorted(begun, key=partial(_place, kinds=[each.kind for each in self.all]))

    def _history(self, run: Run) -> History | None:
        try:
            about = run.journal.stat()
            signature = (about.st_size, about.st_mtime_ns)
            before = self._known.get(run.folder)
            if before is None or before[0] != signature:
                self._known[run.folder] = signature, run.history()
            return self._known[run.folder][1]
        except (OSError, ValueError):  # it was removed
            return None

    @property
    def names(self) -> dict[str, str]:
        """The names of the runs of a sweep, by run."""
        return {} if self._selected.plan is None else self._selected.plan.names

    def press(self, key: str) -> None:
        """Obey a key."""
        at = self._at()
        if key in (UP, DOWN) and self.rows:
            at = min(max(0, at + (1 if key == DOWN else -1)), len(self.rows) - 1)
            self._chosen, self._message = self.rows[at].history.run, ""
        elif key in ("s", "r") and self.rows:
            standing = self.rows[at]
            run = next(each for each in self._selected.runs if each.id == standing.history.run)
            try:
                self._message = self._stop(run) if key == "s" else self._continue(run, standing)
            except OSError as error:
                self._message = f"{run.id}: {explained(error)}"

    def _stop(self, run: Run) -> str:
        if not run.is_live():
            return f"{run.id}: nothing trains it at this moment"
        run.request_stop()
        return f"{run.id}: stops after epoch {len(run.history().epochs) + 1}"

    def _continue(self, run: Run, standing: Standing) -> str:
        if standing.status not in CONTINUED or standing.history.is_pruned:
            return f"{run.id}: {state(standing)}, so there is nothing to continue"
        command = () if self._selected.plan is None else self._selected.plan.overrides
        if any("slurm" in word for word in command):
            return f"{run.id}: repeat its command, which gives it to Slurm again"
        with (run.folder / LOG).open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "harness.run", f"resume={run.id}", f"outputs={run.outputs}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        return f"{run.id}: continues; its output goes to {run.folder / LOG}"

    def _at(self) -> int:
        """The number of the chosen row."""
        ids = [each.history.run for each in self.rows]
        return ids.index(self._chosen) if self._chosen in ids else 0

    def heading(self) -> str:
        """What is watched, how many runs of it are in which state, and the time left."""
        plan = self._selected.plan
        title = self._selected.title if plan is None else f"sweep {plan.title}"
        kinds = [each.kind for each in self.all]
        counts = Counter(map(state, sorted(self.all, key=partial(_place, kinds=kinds))))
        parts = [f"{count} {words}" for words, count in counts.items()]
        left = left_in_all_s(self.all)
        if left is not None:
            parts.append(f"{duration(left)} left")
        return f"{title}: {', '.join(parts)}"

    def screen(self, console: Console) -> Group:
        """Everything, as many rows around the chosen one as the terminal has room for."""
        at, room = self._at(), max(1, console.height - 5)
        count = min(len(self.rows), room)
        while True:
            first = min(max(0, at - count // 2), len(self.rows) - count)
            table = standing_table(self.rows[first : first + count], self.names, mark=at - first)
            excess = len(console.render_lines(table, pad=False)) - room
            if excess <= 0 or count <= 1:
                break
            count = max(1, count - ceil(excess / 2))  # a row may have several lines
        hidden = len(self.rows) - count
        more = f"{hidden} more above or below\n" if hidden else ""
        return Group(Text(self.heading()), table, Text(f"{more}{self._message}\n{KEYS}"))


def _place(standing: Standing, kinds: Sequence[object]) -> tuple[int, tuple[float, ...]]:
    """Running ones first, then those that failed, then finished and pruned ones by rank.

    kinds: of all runs; those of the first kind come first, because they have ranks of their own.
    """
    status = RunStatus.FINISHED if standing.history.is_pruned else standing.status
    is_over = status is RunStatus.FINISHED
    ranks = standing.ranks if is_over and standing.ranks else (0, 0)
    value = standing.objective.order(standing.value) if is_over else 0.0
    kind = kinds.index(standing.kind) if is_over else 0
    return ORDER.index(status), (kind, ranks[0], value)
