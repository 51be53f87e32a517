"""Watching runs: in a pipe once, in a terminal until a key is pressed.

Covers: harness/commands/keyboard.py, harness/run/standing_table.py, harness/run/watched.py
"""

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.commands.keyboard import DOWN, ESCAPE, UP, keys
from harness.commands.watch import Board
from harness.run.standing_table import PLAIN_BARS, sparkline, standing_table, state
from harness.run.watched import Watched
from harness.runfolder import folder
from harness.runfolder.folder import Identity, all_runs
from harness.runfolder.history import PRUNED
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from tests.conftest import (
    DATASET,
    Command,
    composed,
    new_run,
    plan_of,
    record_training,
    start,
    wait_for,
)

ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z])")


class Terminal:
    """`harness watch` in a terminal of 80 columns."""

    def __init__(self, cwd: Path, *arguments: str) -> None:
        self._own, other = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness", "watch", *arguments],
            cwd=cwd, stdin=other, stdout=other, stderr=other, close_fds=True,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
        )  # fmt: skip
        os.close(other)
        self._shown = ""

    def _read(self) -> None:
        while select.select([self._own], [], [], 0.1)[0]:
            with suppress(OSError):  # the other end is closed
                if more := os.read(self._own, 65536):
                    self._shown += ESCAPES.sub("", more.decode())
                    continue
            return

    def press(self, keys: str) -> None:
        self._shown = ""
        os.write(self._own, keys.encode())

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def shows(self, pattern: str, seconds: float = 60) -> bool:
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self._shown, re.DOTALL):
            assert time.monotonic() < deadline, self._shown
            self._read()
        return True

    def end(self) -> tuple[int, str]:
        deadline = time.monotonic() + 60
        while self._process.poll() is None and time.monotonic() < deadline:
            self._read()
        self._read()
        os.close(self._own)
        return self._process.wait(1), self._shown


@pytest.mark.service
def test_a_run_is_stopped_and_continued_by_keys(tmp_path: Path, idx_folder: Path) -> None:
    own = [
        "dataset=idx", f"dataset.dir={idx_folder}", "dataset.num_val=40", "width=8", "batch=16",
        "tracking=none", "checkpoint.every=1", "seed=1,2", "epochs=100000", 'outputs="a=1, b"',
    ]  # fmt: skip
    training = start(tmp_path, "-m", *own)
    outputs = tmp_path / "a=1, b"
    try:
        first = wait_for(lambda: next((r for r in all_runs(outputs) if r.history().epochs), None))
        terminal = Terminal(tmp_path, "--outputs", outputs.name)
        assert terminal.shows("1 running, 1 not started.*seed=1 +running +[0-9]+/100000")
        terminal.press("s")
        assert terminal.shows(f"{first.id}: stops after its current epoch")
        assert terminal.shows("1 running, 1 stopped")
        terminal.press("\x1b[B")  # down: the row below the one that runs
        assert terminal.shows("> +seed=1 +stopped")
        count = len(first.history().epochs)
        terminal.press("r")
        assert terminal.shows(f"{first.id}: continues; its output goes to")
        wait_for(lambda: len(first.history().epochs) > count)
        assert terminal.shows("2 running")
        terminal.press("q")
        status, shown = terminal.end()
        assert (status, shown.count("Traceback")) == (0, 0)
        assert first.is_live(), "the trainings go on"
        os.kill(int(first.history().start["pid"]), 0)  # type: ignore[index]  # it was started
    finally:
        for run in all_runs(outputs):
            run.request_stop()
        training.communicate(timeout=60)
        wait_for(lambda: not any(run.is_live() for run in all_runs(outputs)))
    assert [run.status for run in all_runs(outputs)] == [RunStatus.KILLED] * 2


def test_a_pipe_gets_the_table_once(command: Command, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    done = record_training(new_run(outputs, "epochs=3"), 0.5, 0.3, 0.2)
    failed = record_training(new_run(outputs, "epochs=3"), 0.4, status="FAILED", error="x")
    shown = command("harness", "watch", done.id, failed.id)
    assert (shown.returncode, shown.stderr) == (0, "")
    heading, *lines = shown.stdout.splitlines()
    assert heading == f"runs {done.id} {failed.id}: 1 failed, 1 finished"
    rows = [line.split() for line in lines if "/3" in line]
    assert [(row[1], row[2]) for row in rows] == [("failed", "1/3"), ("finished", "3/3")]
    assert rows[1][3] == "█▃▁"


def test_each_data_set_and_objective_has_ranks_of_its_own(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    shapes = Identity("c", {"run_key": "key"}, DATASET | {"name": "shapes"})
    config = replace(composed("epochs=1"), outputs=str(outputs))
    runs = [
        new_run(outputs, "epochs=1", name="a"),
        new_run(outputs, "epochs=1", "objective=val/loss", name="b"),
        folder.create(outputs, config, shapes),
        new_run(outputs, "epochs=1", name="d"),
        new_run(outputs, "epochs=1", "objective=val/loss", name="e"),
    ]
    for run, value in zip(runs, (0.5, 0.4, 0.3, 0.2, 0.1), strict=True):
        record_training(run, value)
    watched = Watched(outputs, ("since=1h",))
    table = standing_table(watched.rows, watched.names)
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns["run"] == ["d", "a", "e", "b", "c"]
    assert columns["data set"] == ["mnist"] * 4 + ["shapes"]
    assert columns["objective"] == ["val/error"] * 2 + ["val/loss"] * 2 + ["val/error"]


def test_the_keys_of_an_idle_board(tmp_path: Path) -> None:
    """Runs that are over: nothing can be stopped or continued, and arrows move the mark."""
    outputs = tmp_path / "outputs"
    for value in (0.3, 0.2):
        record_training(new_run(outputs, "epochs=1"), value)
    terminal = Terminal(tmp_path, "since=1h")
    assert terminal.shows("q: end this display")
    terminal.press("s")
    assert terminal.shows("nothing trains it at this moment")
    terminal.press("r")
    assert terminal.shows("finished, so there is nothing to continue")
    terminal.press("\x1b")
    assert terminal.end()[0] == 0


def test_a_run_that_its_search_ended_is_over(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    run = record_training(new_run(outputs, "epochs=9"), 0.5, status=None)
    with run.writing() as journal:
        journal.append("tags", tags={PRUNED: "true"})
        journal.append("end", status="KILLED", error="interrupted")
    record_training(new_run(outputs, "epochs=1"), 0.1)
    board = Board(outputs, ("since=1h",))
    assert [state(row) for row in board.watched.rows] == ["finished", "pruned"]
    board.press(DOWN)
    board.press("r")
    console = Console(width=80, height=24, file=io.StringIO())
    console.print(board.screen(console))
    assert f"{run.id}: pruned, so there is nothing to continue" in console.file.getvalue()


@pytest.mark.parametrize(
    ("word", "is_slurm"), [("hydra/launcher='slurm'", True), ("dataset.file=slurm.npz", False)]
)
def test_slurm_continues_only_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, *, is_slurm: bool
) -> None:
    run = record_training(new_run(tmp_path), 0.5, status="FAILED")
    replace(plan_of(run), overrides=("-m", word, "batch=1,2")).save(tmp_path)
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda words, **how: started.append(words[-2]))
    board = Board((tmp_path,), ("last",))
    board.press("r")
    console = Console(width=120, height=24, file=io.StringIO())
    console.print(board.screen(console))
    assert ("which gives it to Slurm again" in console.file.getvalue()) == is_slurm
    assert started == ([] if is_slurm else [f"resume={run.id}"])


def test_an_interrupt_ends_it_quietly(tmp_path: Path) -> None:
    record_training(new_run(tmp_path / "outputs", "epochs=1"), 0.5)
    terminal = Terminal(tmp_path)
    assert terminal.shows("q: end this display")
    terminal.interrupt()
    status, shown = terminal.end()
    assert (status, "Traceback" in shown) == (0, False)


def test_keys_that_come_together() -> None:
    """A key that is held down, and keys that are typed while the screen is drawn."""
    assert keys("\x1b[B\x1b[B\x1bOAs\x1b") == [DOWN, DOWN, UP, "s", ESCAPE]
    assert keys("\x1b[1;5Cq") == ["\x1b[1;5C", "q"]


def test_a_low_terminal_shows_the_rows_around_the_chosen_one(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    for number in range(30):
        run = new_run(outputs, "epochs=1", name=f"run-{number:02}")
        record_training(run, 0.1 + number / 100)
    terminal = Terminal(tmp_path, "since=1h")
    assert terminal.shows("> +run-00")
    assert terminal.shows("15 more above or below")
    terminal.press("\x1b[B" * 20)
    assert terminal.shows("> +run-20")
    terminal.press("q")
    assert terminal.end()[0] == 0


def test_what_is_not_there_is_said(command: Command, tmp_path: Path) -> None:
    done = command("harness", "watch")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: outputs: no sweep or run to watch yet; start one with `python -m harness.run`\n"
    )
    assert command("harness", "watch", "last").stderr.startswith("error: last: there are 0 sweeps")
    done = command("harness", "watch", "nothing")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    Run(record_training(new_run(tmp_path / "outputs"), 0.5).folder)
    done = command("harness", "watch", "since=1h", "params.batch = '7'")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_sparklines() -> None:
    assert sparkline([]) == ""
    assert sparkline([float("nan")]) == ""
    assert sparkline([0.5]) == "▁"
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 7], bars=PLAIN_BARS) == "_#"
    assert sparkline(range(101), width=3) == "▁▅█", "each is the last of its part"
