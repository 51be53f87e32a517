"""The fork server: it forks a job for each request, and refuses when the source has changed."""

import os
import socket
from pathlib import Path

import pytest

from harness.job import forkserver
from harness.run.launchers.fork import fork_job
from harness.run.launchers.prestart import start_job

pytestmark = pytest.mark.skipif(not forkserver.AVAILABLE, reason="jobs are forked on Linux only")


def test_an_edit_of_the_source_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nn").mkdir()
    module = tmp_path / "nn/module.py"
    module.write_text("before")
    monkeypatch.setattr(forkserver, "PACKAGE", tmp_path)
    before = forkserver.source_state()
    assert [path for path, *_ in before] == [str(module)]
    (tmp_path / "notes.txt").write_text("no source")
    assert forkserver.source_state() == before
    module.write_text("after!")
    os.utime(module, ns=(1, 1))
    assert forkserver.source_state() != before
    module.unlink()
    assert forkserver.source_state() == set()


def test_jobs_are_forked_until_the_socket_closes() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        server = start_job("--forking", theirs.fileno())
    jobs = [fork_job(ours), fork_job(ours)]
    assert len({server.pid, *(job.pid for job in jobs)}) == 3
    jobs[0].stdin.close()
    assert jobs[0].wait(60) == 0, "without an order there is nothing to train"
    assert jobs[1].poll() is None
    ours.close()
    assert server.wait(60) == 0
    jobs[1].stdin.close()
    jobs[1].wait(60)
