"""The command's side of the delivery process: start it, send it runs, wait for its report."""

import json
import os
import queue
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

from harness.runfolder import ctrl_c, interpreter
from harness.runfolder.optional import attempt, warn
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking import environment
from harness.tracking.delivery import PATIENCE_S, Report
from harness.tracking.views import View

PRINT_EVERY_S = 3.0  # at first
SILENCE_S = 60.0  # beyond its patience: for timeouts of a call, a slow import


class DeliveryProcess:
    """One delivery process; its log is `outputs/delivery.log`.

    It exits when this process ends, even if this one is killed.
    """

    def __init__(self, target: Target, outputs: Path, patience: float = PATIENCE_S) -> None:
        outputs.mkdir(parents=True, exist_ok=True)
        log = outputs.resolve() / "delivery.log"
        log = attempt("delivery.log", partial(_writable, log), Path(os.devnull))
        with ctrl_c.held_back(), log.open("ab") as errors:  # including errors at its start
            self._process = subprocess.Popen(
                interpreter.running("harness.tracking.delivery"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | environment.DELIVERY,
            )
        self._runs: list[Run] = []
        self._target, self._patience = target, patience
        self._send({"target": asdict(target), "log": str(log), "patience": patience})

    def follow(self, run: Run) -> None:
        """Deliver this run from now on."""
        self._runs.append(run)
        self._send({"follow": str(run.folder.resolve())})

    def close(self, view: View | None = None) -> Report:
        """Wait until everything is delivered or the process gives up; print the progress.

        view: the view of the command's sweep, to be stored with the experiments of its runs.
        A process that does not answer in time is killed.
        """
        why = ""
        try:
            self._send({"close": True, "view": None if view is None else asdict(view)})
            answer = self._answer()
            if answer is None:
                silence = f"{self._patience + SILENCE_S:.0f} s"
                why = f"the delivery process made no progress for {silence}, see delivery.log"
            elif not answer:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(20)  # it died: get its status
        except KeyboardInterrupt:
            answer, why = "", "the delivery was interrupted"
        finally:
            self._end()
        if answer and answer.strip():
            return Report(**json.loads(answer))
        code = self._process.returncode
        why = why or f"the delivery process ended with status {code}, see delivery.log"
        undelivered = {run.id: why for run in self._runs if self._left(run)}
        if not undelivered and self._runs:
            warn("MLflow", f"{why}; all runs were delivered, and only the links are missing here")
        return Report(undelivered=undelivered)

    def _end(self) -> None:
        """Kill the process; undelivered records stay on disk."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # closing flushes what a dead process did not read
                pipe.close()

    def _answer(self) -> str | None:
        """The report as a line; empty if the process died, None if it made no progress."""
        answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        assert self._process.stdout is not None
        read = self._process.stdout.readline
        threading.Thread(target=lambda: answers.put(read()), daemon=True).start()
        progress, left = time.monotonic(), sum(map(self._left, self._runs))
        wait = PRINT_EVERY_S
        while time.monotonic() - progress < self._patience + SILENCE_S:
            try:
                return answers.get(timeout=wait)
            except queue.Empty:
                wait = min(2 * wait, 10 * PRINT_EVERY_S)  # a short command prints one line
                before, left = left, sum(map(self._left, self._runs))
            if left < before:
                progress = time.monotonic()
            count = sum(self._left(run) > 0 for run in self._runs)
            print(
                f"the results are on disk; copying {count} run(s) to MLflow at {self._target} "
                "(Ctrl-C leaves that to `sync`)",
                flush=True,
            )
        return None

    def _left(self, run: Run) -> int:
        """The number of bytes of a run's journal that are not delivered."""
        state = run.delivered()
        done = state.get("offset", 0) if state.get("store") == self._target.key else 0
        return run.journal.stat().st_size - int(done) if run.journal.exists() else 0

    def _send(self, order: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except OSError:
            return  # the process died; `close` reports every run as undelivered


def _writable(path: Path) -> Path:
    """The path itself. Raises `OSError` if it is not writable, such as another user's file."""
    path.open("ab").close()
    return path
