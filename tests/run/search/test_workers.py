"""The commands of one search: who lives, and that one at a time has its turn."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.run.search import workers
from harness.run.search.workers import FolderWorkers
from harness.runfolder.folder import Busy

OTHER = """
import sys, time
from pathlib import Path
from harness.run.search.workers import FolderWorkers
other = FolderWorkers(Path(sys.argv[1]))
other.enter()
if sys.argv[2] == "turn":
    turn = other.turn()
    turn.__enter__()
print(other.id, flush=True)
time.sleep(600)
"""


@contextmanager
def another(folder: Path, what: str = "lives") -> Iterator[str]:
    """Another command of the search, which is killed at the end; its id."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(folder), what], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_a_command_lives_until_its_process_ends(tmp_path: Path) -> None:
    own = FolderWorkers(tmp_path / "search")
    assert own.others() == set()
    own.enter()
    own.enter()
    with another(tmp_path / "search") as first, another(tmp_path / "search") as second:
        assert own.others() == {first, second}
    assert own.others() == set()
    third = FolderWorkers(tmp_path / "search")
    third.enter()
    left = {path.stem for path in (tmp_path / "search/workers").iterdir()}
    assert left == {own.id, third.id}, "what the dead ones left is removed"
    assert own.others() == {third.id}


def test_a_turn_ends_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "TURN_S", 0.2)
    own = FolderWorkers(tmp_path / "search")
    with (
        another(tmp_path / "search", "turn"),
        pytest.raises(Busy, match=r"search/\.lock: another command has held it"),
        own.turn(),
    ):
        pass
    with own.turn(), own.turn():
        pass
