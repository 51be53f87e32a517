"""Removing what no run needs: checkpoints of finished runs and half-written files."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from click.testing import CliRunner

from harness.commands import clean as module
from harness.commands.clean import clean, unneeded
from harness.runfolder import checkpoint, journal, liveness, merging
from harness.runfolder.checkpoints import Checkpoints
from tests.conftest import RUN, Command, new_run, only_folder, record_training, small


def test_clean_removes_what_no_run_needs(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    keep = ("checkpoint.milestones=3", "checkpoint.keep=0")
    command(RUN, *small(idx_folder, "tracking=none", "epochs=7", *keep))
    folder = only_folder(tmp_path)
    checkpoints = folder / "checkpoints"
    assert {int(path.name[-6:]) for path in checkpoints.iterdir()} == set(range(1, 8))
    half = (folder / "weights/.last.safetensors.abc", folder.parent / ".123-unfinished")
    half[0].write_bytes(bytes(5_000_000))
    half[1].mkdir()
    for path in half:
        os.utime(path, (0, 0))
    dry = command("harness", "clean", "--dry-run").stdout
    assert dry.startswith("would free 5.0 MB")
    assert half[0].exists()
    assert command("harness", "clean").stdout == dry.replace("would free", "freed")
    assert [path.exists() for path in half] == [False, False]
    assert {int(path.name[-6:]) for path in checkpoints.iterdir()} == {3, 6}
    command("harness", "clean", "--all")
    assert list(checkpoints.iterdir()) == []
    assert checkpoint.load(folder / "weights/last.safetensors")[1]["epoch"] == 7
    with journal.Journal(folder / journal.FILE_NAME) as writer:
        writer.append("start", **liveness.this_process(), threads=1, backend="numpy")
        writer.append("end", status="KILLED", error="interrupted")
    Checkpoints(checkpoints, every=1, keep=0).save(7, 1, {}, lambda folder: None)
    assert command("harness", "clean").stdout.startswith("freed 0.0 MB")
    assert len(list(checkpoints.iterdir())) == 1, "an unfinished run may be resumed from it"


def test_a_hidden_folder_in_another_and_a_dead_link_are_removed(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    inner, link = run.folder / ".outer/.inner", run.folder / ".link"
    inner.mkdir(parents=True)
    link.symlink_to("nowhere")
    (run.folder / ".lock").mkdir()
    for path in (inner, inner.parent, link):
        os.utime(path, (0, 0), follow_symlinks=False)
    done = CliRunner().invoke(clean, ["--outputs", str(tmp_path)])
    assert (done.exit_code, done.output) == (0, "freed 0.0 MB of checkpoints\n")
    assert not inner.parent.exists()
    assert not link.is_symlink()


def test_a_file_that_is_written_and_renamed_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(tmp_path)
    gone = run.folder / ".journal.jsonl.12ab"
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: iter([gone]))
    assert unneeded(tmp_path, everything=False) == []


def test_a_folder_that_is_written_into_for_long_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "cache/.extracting-12ab"
    folder.mkdir(parents=True)
    (folder / "train.npy").write_bytes(b"some")
    os.utime(folder, (0, 0))  # the time of its newest file's creation
    assert unneeded(tmp_path, everything=False) == []
    os.utime(folder / "train.npy", (0, 0))
    assert unneeded(tmp_path, everything=False) == [folder]


def test_what_a_merge_copies_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy is hidden, and has the time of the run that it is of."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    run = record_training(new_run(theirs, "tracking=none"), 0.5)
    for path in (run.folder, *run.folder.rglob("*")):
        os.utime(path, (0, 0))
    ours.mkdir()
    copied, cleaned, merges, copytree = Event(), Event(), [], shutil.copytree

    def copy(*words: Any, **named: Any) -> None:
        copytree(*words, **named)
        copied.set()
        assert cleaned.wait(60)

    def put_back(outputs: Path) -> None:
        merges.append(pool.submit(merging.merge, outputs, theirs))

    def listed(outputs: Path, *, everything: bool) -> list[Path]:
        copied.wait(1)
        return unneeded(outputs, everything=everything)

    monkeypatch.setattr(shutil, "copytree", copy)
    monkeypatch.setattr(module, "put_back", put_back)
    monkeypatch.setattr(module, "unneeded", listed)
    with ThreadPoolExecutor(1) as pool:
        done = CliRunner().invoke(clean, ["--outputs", str(ours)])
        cleaned.set()
        (merge,) = merges
        assert [each.id for each in merge.result(60).runs] == [run.id]
    assert done.exit_code == 0
