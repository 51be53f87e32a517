"""`python -m harness watch`: runs while they are trained, live in the terminal."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from math import ceil
from pathlib import Path

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from harness.commands.keyboard import DOWN, ESCAPE, UP, Wait, keyboard
from harness.commands.options import OUTPUTS, refuse
from harness.job.interruption import Stopped
from harness.run.estimate import duration
from harness.run.fitted_table import FittedTable
from harness.run.launchers.job_process import LOG
from harness.run.standing import Standing, left_in_all_s, standings
from harness.run.summary import objectives, show
from harness.runfolder import streams
from harness.runfolder.history import History
from harness.runfolder.run import Run
from harness.runfolder.selection import Selection, select
from harness.runfolder.status import RunStatus

TICK_S = 1.0
LIST_EVERY_S = 5.0  # new trials of a search, new runs that a selection means
CURVE = 14  # characters of a sparkline
BARS, PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.-~=+*#"
KEYS = "up, down: choose a run   s: stop it   r: continue it   q: end this display"
BAD = (RunStatus.FAILED, RunStatus.KILLED, RunStatus.DAMAGED)
ORDER = (RunStatus.RUNNING, *BAD, RunStatus.FINISHED, RunStatus.CREATED)


@click.command()
@click.argument("selection", nargs=-1)
@OUTPUTS
def watch(selection: tuple[str, ...], outputs: Path) -> None:
    """Show how far the newest sweep or run is, or a SELECTION, until a key ends the display.

    SELECTION is as for `compare`. Keys: up and down choose a run, `s` stops it after its current
    epoch, `r` continues one that was stopped or that failed, `q` ends the display; the trainings
    go on. Into a pipe, the table is printed once.
    """
    try:
        board = Board(outputs, selection or ("last",))
    except ValueError as error:
        refuse(error)
    console = streams.console()
    if console.is_terminal and sys.stdin.isatty():
        with keyboard() as wait:
            _live(board, console, wait)
    print(board.heading())
    show(board.table(board.rows))


def _live(board: "Board", console: Console, wait: Wait) -> None:
    """Draw the board every second and obey keys, until one ends it."""
    listed = time.monotonic()
    with Live(
        board.screen(console), console=console, screen=True, auto_refresh=False,
        vertical_overflow="crop",
    ) as live:  # fmt: skip
        while True:
            try:
                key = wait(TICK_S)
            except KeyboardInterrupt:
                return
            if key in ("q", "Q", ESCAPE):
                return
            if key is not None:
                board.press(key)
            if time.monotonic() - listed > LIST_EVERY_S:
                board.list()
                listed = time.monotonic()
            board.read()
            live.update(board.screen(console), refresh=True)


class Board:
    """What is shown of the selected runs. rows: those that have begun, running ones first."""

    def __init__(self, outputs: Path, words: Sequence[str]) -> None:
        """Raises `ValueError` when the words mean no run."""
        self._outputs, self._words = outputs, words
        self._chosen, self._message = "", ""
        self._bars = BARS if streams.can_print(BARS) else PLAIN_BARS
        self._known: dict[Path, tuple[tuple[int, int], History]] = {}
        self._selected = self._select()
        if not self._selected.runs:
            raise ValueError(f"{self._selected.title}: none of its runs is in {outputs}")
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
        self.rows = sorted(begun, key=_place)

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
                self._message = f"{run.id}: {error}"

    def _stop(self, run: Run) -> str:
        if not run.is_live():
            return f"{run.id}: nothing trains it at this moment"
        run.request_stop()
        return f"{run.id}: stops after epoch {len(run.history().epochs) + 1}"

    def _continue(self, run: Run, standing: Standing) -> str:
        if standing.status not in BAD[:2]:
            return f"{run.id}: {standing.status.lower()}, so there is nothing to continue"
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
        counts = Counter(map(_state, sorted(self.all, key=_place)))
        parts = [f"{count} {state}" for state, count in counts.items()]
        left = left_in_all_s(self.all)
        if left is not None:
            parts.append(f"{duration(left)} left")
        return f"{title}: {', '.join(parts)}"

    def screen(self, console: Console) -> Group:
        """Everything, as many rows around the chosen one as the terminal has room for."""
        at, count = self._at(), len(self.rows)
        room = console.height - 5
        while True:
            first = min(max(0, at - count // 2), len(self.rows) - count)
            table = self.table(self.rows[first : first + count], mark=self._at() - first)
            lines = len(console.render_lines(table, pad=False))
            if lines <= room or count <= 1:
                break
            count -= max(1, ceil((lines - room) / 2))
            count = max(count, 1)
        hidden = len(self.rows) - count
        more = f"{hidden} more above or below\n" if hidden else ""
        return Group(Text(self.heading()), table, Text(f"{more}{self._message}\n{KEYS}"))

    def table(self, rows: Sequence[Standing], mark: int | None = None) -> FittedTable:
        """One line per run. mark: the number of the chosen one."""
        different = objectives([each.history for each in rows])
        title = different[0].short_title if len(different) == 1 else "value"
        table = FittedTable(tells=mark is None)
        if mark is not None:
            table.add("")
        table.add("run", folds=True)
        table.add("status", drop=4)
        table.add("epoch", right=True)
        table.add("curve")
        table.add(title, right=True)
        table.add("95 % interval", right=True, drop=2)
        table.add("rank", right=True)
        table.add("left", right=True, drop=3)
        table.add("run id", drop=1)
        names = {} if self._selected.plan is None else self._selected.plan.names
        for number, each in enumerate(rows):
            history = each.history
            table.add_row(
                *([] if mark is None else [">" if number == mark else ""]),
                names.get(history.run, history.name),
                _state(each),
                f"{len(history.epochs)}/{each.total}",
                sparkline(each.curve, self._bars),
                "" if each.value is None else each.objective.format(each.value),
                _range(each),
                _ranks(each),
                "" if each.left_s is None else duration(each.left_s).removeprefix("about "),
                history.run,
                style="bold" if number == mark else None,
            )
        return table


def sparkline(curve: Sequence[float], bars: str = BARS, width: int = CURVE) -> str:
    """A curve as bars, at most `width`; each is the last value of its part. bars: low to high."""
    finite = [value for value in curve if value - value == 0]
    if not finite:
        return ""
    count = min(width, len(finite))
    shown = [finite[ceil((number + 1) * len(finite) / count) - 1] for number in range(count)]
    low, high = min(shown), max(shown)
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[round((value - low) * scale)] for value in shown)


def _place(standing: Standing) -> tuple[int, tuple[float, float]]:
    """Running ones first, then those that failed, then finished ones by rank."""
    status = standing.status
    is_over = status is RunStatus.FINISHED
    ranks = standing.ranks if is_over and standing.ranks else (0, 0)
    value = standing.objective.order(standing.value) if is_over else 0.0
    return ORDER.index(status), (ranks[0], value)


def _state(standing: Standing) -> str:
    if standing.history.is_pruned:
        return "pruned"
    if standing.status is RunStatus.KILLED and standing.history.error == Stopped.why:
        return "stopped"
    is_waiting = standing.status is RunStatus.CREATED
    return "not started" if is_waiting else standing.status.lower()


def _range(standing: Standing) -> str:
    if standing.interval is None or standing.interval[0] == standing.interval[1]:
        return ""
    low, high = (standing.objective.format(each) for each in standing.interval)
    return f"{low.removesuffix('%')} to {high}"


def _ranks(standing: Standing) -> str:
    if standing.ranks is None:
        return ""
    best, worst = standing.ranks
    return str(best) if best == worst else f"{best} to {worst}"
