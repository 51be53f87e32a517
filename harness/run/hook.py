"""`on_end=COMMAND` or `on_end=URL`: report the end of a command.

A URL gets a POST request with JSON; a command of the shell gets the same JSON on its standard
input. It is called once per command, and cannot change how the command ends.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.nn import metrics
from harness.runfolder.objective import Objective
from harness.runfolder.plan import Plan
from harness.runfolder.run import Run
from harness.runfolder.status import ExitStatus

URL_S, COMMAND_S = 10.0, 60.0
SERVERS = ("http://", "https://")


def check(target: str) -> None:
    """Raise `ValueError` for an address that cannot be called."""
    scheme, colon, _ = target.partition("://")
    if colon and scheme.isalnum() and not target.startswith(SERVERS):
        raise ValueError(f"on_end={target}: expected an http or https address, or a command")


def summary(
    status: ExitStatus, typed: Sequence[str], runs: Sequence[Run], plan: Plan | None, report: Path
) -> dict[str, Any]:
    """The report: errors are fractions, times are seconds, unknown values are null."""
    return {
        "format": "harness end",
        "version": 1,
        "status": status.name,
        "exit_status": int(status),
        "command": list(typed),
        "sweep": None if plan is None else plan.id,
        "name": None if plan is None else plan.about.name or None,
        "report": str(report) if report.is_file() else None,
        "runs": [_run(run) for run in runs],
    }


def _run(run: Run) -> dict[str, Any]:
    history = run.history()
    objective = Objective.of(history.params)
    return {
        "run": run.id,
        "name": run.name,
        "status": history.status.value,
        "objective": str(objective),
        "best": _number(history.final.get(objective.best_key)),
        "best_epoch": _number(history.final.get(metrics.BEST_EPOCH)),
        "test": _number(history.final.get(objective.test_key)),
        "seconds": _number(history.seconds),
        "error": history.error,
    }


def _number(value: float | None) -> float | None:
    return value if value is not None and abs(value) < float("inf") else None


def call(target: str, content: dict[str, Any]) -> None:
    """Call it; a line on standard error says what went wrong."""
    text = json.dumps(content)
    try:
        if target.startswith(SERVERS):
            _post(target, text)
        else:
            _run_command(target, text)
    except (OSError, ValueError) as error:
        print(f"on_end: {error}", file=sys.stderr)


def _post(url: str, text: str) -> None:
    request = urllib.request.Request(  # its scheme is checked
        url, text.encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=URL_S):
        pass


def _run_command(command: str, text: str) -> None:
    process = subprocess.Popen(  # the user's own command line
        command, shell=True, stdin=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        process.communicate(text, timeout=COMMAND_S)
    except subprocess.TimeoutExpired:
        print(f"on_end: {command!r} was stopped after {COMMAND_S:g} s", file=sys.stderr)
        _kill(process)
    else:
        if process.returncode:
            why = f"ended with exit status {process.returncode}"
            print(f"on_end: {command!r} {why}", file=sys.stderr)


def _kill(process: "subprocess.Popen[str]") -> None:
    """Kill a process and those that it started."""
    if os.name == "nt":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
