"""A full disk: a clear error, and earlier files are untouched."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.data.atomic import write_text
from harness.runfolder import checkpoint, journal
from harness.runfolder.journal import Journal
from harness.runfolder.plan import Plan, SweepJob, load_plan
from tests.conftest import RUN, Command, command_in, run_folders, small
from tests.test_resume import epochs_recorded, outcome, settings

FULL = "No space left on device"
pytestmark = pytest.mark.fault


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A separate file system of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.name == "nt" or os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root: run the tests as root, or in a container")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, left: int) -> Path:
    """A file that leaves `left` bytes of the disk free."""
    filler = disk / "filler"
    free = os.statvfs(disk)
    filler.write_bytes(bytes(free.f_bavail * free.f_frsize - left))
    return filler


def is_refused(write: Callable[[], object], disk: Path) -> bool:
    try:
        write()
    except OSError as error:
        message = str(error)
    else:
        return False
    assert FULL in message
    assert str(disk) in message, "it names the file"
    return True


def test_each_kind_of_file_is_whole_or_as_before(disk: Path) -> None:
    """With room for none, one, two ... pages of each thing that is written."""
    arrays = {"parameters": np.arange(6000, dtype=np.float32)}
    jobs = (SweepJob("abc", "seed=1", {"seed": "1"}, "key"),) * 80
    with Journal(disk / journal.FILE_NAME) as writer:
        writer.append("create", run="abc", name="n", params={}, tags={})
        checkpoint.save(disk / "c.safetensors", arrays, {"epoch": 1})
        Plan("plan", ("-m", "seed=1"), jobs).save(disk)
        write_text(disk / "note.txt", "before" * 2000)
        refused = {"journal": 0, "checkpoint": 0, "plan": 0, "text": 0}
        for pages in range(10):
            filler = fill(disk, pages * 4096)
            known = len(journal.read(disk / journal.FILE_NAME)[0]) + refused["journal"]
            for what, write in {
                "journal": lambda: writer.append("tags", tags={"long": "x" * 9000}),
                "checkpoint": lambda: checkpoint.save(
                    disk / "c.safetensors", arrays, {"epoch": 2}
                ),
                "plan": lambda: Plan("plan", ("after",), jobs).save(disk),
                "text": lambda: write_text(disk / "note.txt", "after!" * 2000),
            }.items():  # fmt: skip
                refused[what] += is_refused(write, disk)
            records, _, torn = journal.read(disk / journal.FILE_NAME)
            assert not torn
            assert len(records) + refused["journal"] == known + 1
            loaded, description = checkpoint.load(disk / "c.safetensors")
            np.testing.assert_array_equal(loaded["parameters"], arrays["parameters"])
            assert description["epoch"] in (1, 2)
            assert load_plan(disk, "plan").overrides in (("-m", "seed=1"), ("after",))
            assert (disk / "note.txt").read_text() in ("before" * 2000, "after!" * 2000)
            filler.unlink()
            assert not [path for path in disk.rglob(".*") if path.is_file()]
        assert all(0 < times < 10 for times in refused.values()), refused


def test_a_disk_too_small_for_the_data_is_named(disk: Path) -> None:
    done = command_in(disk)(RUN, "tracking=none", "epochs=1")
    assert done.returncode == 1
    assert (done.stderr.count("\n"), FULL in done.stderr) == (1, True), done.stderr
    assert "outputs/cache" in done.stderr, "the file that cannot be written, not the one read"
    left = [path.name for path in (disk / "outputs/cache").iterdir()]
    assert left == [".lock"], "nothing half-written"


@pytest.mark.parametrize("left", [0, 8, 40, 90, 160])
def test_a_run_on_a_full_disk_is_resumed_later(
    disk: Path, tmp_path: Path, idx_folder: Path, left: int
) -> None:
    """left: KiB that are free when a second run starts; the first one must stay intact."""
    command = command_in(disk)
    numba = {"NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    more = ("backend=numpy", "width=64", "checkpoint.keep=0")
    assert command(RUN, *settings(idx_folder, *more, epochs=2), **numba).returncode == 0
    (first,) = run_folders(disk / "outputs")
    before = outcome(first)
    filler = fill(disk, left * 1024)
    done = command(RUN, *settings(idx_folder, *more, epochs=30), **numba)
    assert done.returncode == 1
    assert FULL in done.stderr
    assert "Traceback" not in done.stderr
    assert outcome(first) == before
    filler.unlink()
    again = settings(idx_folder, *more, epochs=30)
    second = [folder for folder in run_folders(disk / "outputs") if folder != first]
    done = command(RUN, *(("resume=last",) if second else again), **numba)
    assert done.returncode == 0, done.stderr
    (second,) = [f for f in run_folders(disk / "outputs") if f != first]
    assert epochs_recorded(second) == list(range(1, 31))


@pytest.mark.filterwarnings("ignore")
def test_a_full_disk_delays_only_the_delivery(disk: Path, tmp_path: Path, idx_folder: Path) -> None:
    """There is no room for the database; there is for the journal."""
    command: Command = command_in(disk)
    own = small(idx_folder, "epochs=3")
    filler = fill(disk, 700 * 1024)
    done = command(RUN, *own, "tracking.patience=5")
    assert done.returncode == 3, done.stderr
    assert "`python -m harness sync` delivers the rest" in done.stderr
    filler.unlink()
    done = command("harness", "sync")
    assert done.returncode == 0, done.stderr
    assert "1 of 1 runs delivered in full" in done.stdout
