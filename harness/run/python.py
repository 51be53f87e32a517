"""The commands from Python: train, sweep, and open what they made.

Each call runs `python -m harness.run` in its own process, so it works in a notebook and in a
thread, and has the same effect as the command. When the calling process dies, as when a notebook's
kernel is restarted, the command stops as after Ctrl-C.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, TextIO

from harness.runfolder import folder
from harness.runfolder.folder import open_run
from harness.runfolder.run import Run
from harness.runfolder.selection import select
from harness.runfolder.status import ExitStatus
from harness.runfolder.sweep import Sweep

LAST_LINES = 20
ERROR = "error: "  # what the command's line about bad input begins with
TRAIN_NOTHING = (
    "--help", "-h", "--dry-run", "--cfg", "-c", "--shell-completion", "-sc", "--ids",
)  # fmt: skip


class TrainingFailed(RuntimeError):
    """A run did not finish; `run` is the run, the message its error."""

    def __init__(self, run: Run) -> None:
        super().__init__(f"{run.id}: {run.history().error}")
        self.run = run


def train(
    overrides: Sequence[str] = (), *, config_dir: str | Path | None = None, quiet: bool = False
) -> Run:
    """Train one run, as `python -m harness.run OVERRIDES...` does, and return it.

    config_dir: the folder of the option --config-dir, with groups and modules of your own. quiet:
    print nothing. Raises `ValueError` for bad input, with the command's line, and
    `TrainingFailed`.
    """
    _check(overrides)
    if {"-m", "--multirun"} & {*overrides}:
        raise ValueError("harness.train trains one run; harness.sweep runs a sweep, without -m")
    if swept := [text for text in overrides if _is_swept(text)]:
        raise ValueError(f"{swept[0]}: several values are a sweep; use harness.sweep")
    made = _command(overrides, config_dir, quiet=quiet)
    run = open_run(Path(made["outputs"]), made["runs"][0])
    if not run.is_finished:
        raise TrainingFailed(run)
    return run


def sweep(
    overrides: Sequence[str] = (), *, config_dir: str | Path | None = None, quiet: bool = False
) -> Sweep:
    """Run a sweep, as `python -m harness.run -m OVERRIDES...` does, and return it.

    Runs that failed are in its `failed`. Otherwise as `train`.
    """
    _check(overrides)
    made = _command(overrides, config_dir, "-m", quiet=quiet)
    return Sweep.open(Path(made["outputs"]), made["sweep"])


def open(what: str = "last", *, outputs: str | Path = "outputs") -> Run | Sweep:
    """The one run, or the sweep, that `what` means: an id, a name, `last~1`, as on a command line.

    `last` is the newest run, also when it belongs to a sweep. outputs: the folder that has it, the
    key `outputs` of the command. Raises `ValueError` when there is none, or more than one, and for
    what is no text.
    """
    if not isinstance(what, str):
        raise ValueError(f"harness.open({what!r}): expected 'last', or the id of a run or a sweep")
    folder.check_outputs(Path(outputs))
    if what == "last":
        return folder.find(Path(outputs), what)
    chosen = select(Path(outputs), [what])
    if chosen.plan is not None:
        return Sweep(chosen.plan, Path(outputs))
    if len(chosen.runs) != 1:
        raise ValueError(
            f"{chosen.title} has {len(chosen.runs)} runs; harness.runs({what!r}) lists them"
        )
    return chosen.runs[0]


def _check(overrides: Sequence[str]) -> None:
    """Raise `ValueError` unless these are a list of strings without options that train nothing."""
    if isinstance(overrides, str):
        raise ValueError(f"expected a list of overrides, found a text; use [{overrides!r}]")
    if not isinstance(overrides, Sequence):
        raise ValueError(f"expected a list of overrides such as ['width=8'], found {overrides!r}")
    for text in overrides:
        if not isinstance(text, str):
            raise ValueError(
                f"{text!r}: expected a text such as 'width=8' in the list of overrides"
            )
        if text.partition("=")[0] in TRAIN_NOTHING:
            raise ValueError(
                f"{text}: trains nothing, and is not available from Python; type "
                f"`python -m harness.run {text}` in a shell"
            )


def _is_swept(text: str) -> bool:
    """Whether an override has several values; the command reports one that it cannot parse."""
    from harness.run.overrides import parse_each  # which loads Hydra

    with contextlib.suppress(ValueError):
        return any(override.is_sweep_override() for override in parse_each([text]))
    return False


def _command(
    overrides: Sequence[str], config_dir: str | Path | None, *options: str, quiet: bool
) -> dict[str, Any]:
    """Run the command; returns what it made: outputs, runs, sweep."""
    arguments = [*options, *overrides]
    if config_dir is not None:
        arguments = ["--config-dir", str(config_dir), *arguments]
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / "made.json"
        last: deque[str] = deque(maxlen=LAST_LINES)
        status = _run(arguments, made, last, quiet=quiet)
        if status == ExitStatus.INTERRUPTED:
            raise KeyboardInterrupt
        if not made.is_file():
            lines = [line for line in last if line.startswith(ERROR)] or list(last)
            error = "\n".join(lines).removeprefix(ERROR)
            raise ValueError(error or f"the command ended with exit status {status}")
        content: dict[str, Any] = json.loads(made.read_text())
        return content


def _run(arguments: list[str], made: Path, last: deque[str], *, quiet: bool) -> int:
    """Run the command and print its output; `last` gets the last lines of its errors.

    made: the file that gets the ids of what it makes.
    """
    # The child finds this very package, also where it is not installed.
    paths = [os.environ.get("PYTHONPATH", ""), str(Path(__file__).parents[2])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.run", "--ids", str(made), *arguments],
        stdin=subprocess.PIPE,  # closed when this process dies: the command stops
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,  # Ctrl-C in a terminal would reach it twice: here and from below
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    lost: deque[str] = deque(maxlen=0)
    readers = [
        threading.Thread(target=_pass_on, args=each, daemon=True)
        for each in (
            (process.stdout, None if quiet else sys.stdout, lost, made),
            (process.stderr, None if quiet else sys.stderr, last, made),
        )
    ]
    for reader in readers:
        reader.start()
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        status = process.wait()
    for reader in readers:
        reader.join()
    process.stdin.close()
    return status


def _pass_on(source: IO[str], target: TextIO | None, last: deque[str], made: Path) -> None:
    """Print each line; a notebook's cell gets what is printed, not what a child process writes.

    made: until it exists, errors are bad input, which an exception tells.
    """
    with source:
        for line in source:
            last.append(line.rstrip("\n"))
            is_raised = line.startswith(ERROR) and not made.is_file()
            if target is not None and not is_raised:
                print(line, end="", file=target, flush=True)
