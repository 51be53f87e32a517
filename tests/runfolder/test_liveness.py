"""Whether the process that trains a run is alive."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness.runfolder import liveness
from tests.conftest import wait_for

PRINT_START = (
    "import json; from harness.runfolder import liveness; "
    "print(json.dumps(liveness.this_process()))"
)


def test_this_process_is_running() -> None:
    start = liveness.this_process()
    assert start["host"] == liveness.HOST
    assert liveness.is_running(start)


def test_the_clock_may_be_set() -> None:
    start = liveness.this_process()
    started = start["process_started"]
    assert liveness.is_running(start | {"process_started": started + 1})
    assert not liveness.is_running(start | {"process_started": started + 3}), "its pid was reused"


def test_a_process_of_another_host_cannot_be_seen() -> None:
    assert not liveness.is_running(liveness.this_process() | {"host": "elsewhere"})


def test_a_start_record_without_a_start_time_is_not_trusted() -> None:
    start = liveness.this_process()
    del start["process_started"]
    assert not liveness.is_running(start)


def test_a_process_that_ended_is_not_running() -> None:
    """Not while it is a zombie either: its parent may never wait for it."""
    with subprocess.Popen([sys.executable, "-c", PRINT_START], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        start = json.loads(process.stdout.read())
        child = psutil.Process(process.pid)
        wait_for(lambda: child.status() == psutil.STATUS_ZOMBIE, 60)
        assert not liveness.is_running(start)
    assert not liveness.is_running(start)


def test_a_process_that_may_not_be_looked_at_counts_as_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def denied(process: psutil.Process) -> float:
        raise psutil.AccessDenied(process.pid)

    start = liveness.this_process()
    monkeypatch.setattr(psutil.Process, "create_time", denied)
    assert liveness.is_running(start)


def test_the_lock_is_released_with_its_process(tmp_path: Path) -> None:
    assert not liveness.is_locked(tmp_path)
    hold = (
        "import sys; from pathlib import Path; from harness.runfolder import liveness\n"
        "with liveness.lock(Path(sys.argv[1])):\n    print('locked', flush=True)\n    input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        assert liveness.is_locked(tmp_path)
        process.kill()
    assert not liveness.is_locked(tmp_path)


def test_a_lock_that_may_only_be_read_is_still_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of another user; the tests run as root, who may write to everything."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    assert not liveness.is_locked(tmp_path)
    (tmp_path / ".lock").chmod(0o444)
    held = liveness.lock(tmp_path, 0)
    with held:
        monkeypatch.setattr(liveness.FolderLock, "acquire", refuse)
        assert liveness.is_locked(tmp_path)
        assert liveness.is_locked(tmp_path)
    assert not liveness.is_locked(tmp_path)
    (tmp_path / ".lock").unlink()
    assert not liveness.is_locked(tmp_path)
