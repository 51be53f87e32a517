"""The job's end of its parent's pipe: the order, and EOF."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.job import parent
from harness.runfolder.keys import source_digest

READ = (
    "import os; from harness.job import parent; "
    "order = parent.read_order(); "
    "how = order and ('alone' if order.alone else 'one of several'); "
    "words = (how, order.folder, order.name, order.pause) if order else (None,); "
    "print(*words, os.environ.get('HARNESS_CORES'), flush=True)"
)


def read(content: bytes) -> str:
    """What a process prints that reads its order from this content."""
    environment = {key: value for key, value in os.environ.items() if key != "HARNESS_CORES"}
    done = subprocess.run(
        [sys.executable, "-c", READ], input=content, env=environment, capture_output=True,
        timeout=60, check=True,
    )  # fmt: skip
    assert done.stderr == b""
    return done.stdout.decode()


def order(**content: Any) -> bytes:
    values = {"folder": "/runs/abc", "name": "a=1", "log": None, "cores": None, "alone": False,
              "pause": None}  # fmt: skip
    return json.dumps(values | content).encode()


@pytest.mark.parametrize("content", [b"", b"{", order()])
def test_a_pipe_that_closes_before_the_line_ends_is_no_order(content: bytes) -> None:
    assert read(content) == "None None\n"


def test_the_folder_and_the_cores() -> None:
    assert read(order() + b"\n") == "one of several /runs/abc a=1 None None\n"
    assert read(order(alone=True) + b"\n") == "alone /runs/abc a=1 None None\n"
    assert read(order(cores=3) + b"\n") == "one of several /runs/abc a=1 None 3\n"
    assert read(order(pause=9) + b"\n") == "one of several /runs/abc a=1 9 None\n"
    long = "/runs/" + "x" * 10_000
    assert read(order(folder=long) + b"\n") == f"one of several {long} a=1 None None\n"


def test_the_output_goes_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_text("before\n")
    assert read(order(log=str(log)) + b"\n") == ""
    assert log.read_text() == "before\none of several /runs/abc a=1 None None\n", "it is appended"


def test_a_server_computes_the_digest_of_the_source_for_its_jobs() -> None:
    source_digest.cache_clear()
    parent.preload()
    assert source_digest.cache_info().currsize == 1


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_the_death_of_the_parent_terminates_the_job() -> None:
    code = (
        "import threading, time; from harness.job import interruption, parent\n"
        "interruption.raise_on_signal()\n"
        "threading.Thread(target=parent.watch, daemon=True).start()\n"
        "try:\n    print('ready', flush=True)\n    while True:\n        time.sleep(0.01)\n"
        "except interruption.JobInterrupted:\n    print('interrupted')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdin.close()
        assert process.stdout.read() == b"interrupted\n"
