"""The object `Run`: what it reads from the folder and what it writes to the journal."""

import multiprocessing
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import Timeout

from harness.data import dataset, extraction
from harness.data.atomic import write_text
from harness.data.split import Split
from harness.runfolder import journal as journals
from harness.runfolder import liveness
from harness.runfolder import run as runs
from harness.runfolder.config import ConfigError
from harness.runfolder.history import PRUNED, History, read_history
from harness.runfolder.journal import JournalError
from harness.runfolder.run import Run
from harness.runfolder.status import RunStatus
from harness.runfolder.target import Target
from tests.conftest import composed, new_run, record_training, small


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return new_run(tmp_path / "outputs")


def hold_lock(folder: Path, locked: "multiprocessing.synchronize.Event") -> None:
    with Run(folder).lock():
        locked.set()
        multiprocessing.Event().wait(60)


@pytest.fixture
def trained_elsewhere(run: Run) -> Iterator[Run]:
    """The run, while another process holds its lock."""
    context = multiprocessing.get_context("spawn")
    locked = context.Event()
    process = context.Process(target=hold_lock, args=(run.folder, locked))
    process.start()
    assert locked.wait(60)
    yield run
    process.kill()
    process.join()
    process.close()


def locked_for(run: Run, seconds: float) -> threading.Thread:
    """A thread that holds the run's lock from now on, for this long."""
    held = threading.Event()

    def hold() -> None:
        with run.lock():
            held.set()
            time.sleep(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    return thread


def test_paths(tmp_path: Path) -> None:
    run = Run(tmp_path / "outputs/runs/0123ab-20260101-120000")
    assert run.id == "0123ab-20260101-120000"
    assert run.outputs == tmp_path / "outputs"
    assert run.cache == tmp_path / "outputs/cache"
    assert run.journal == run.folder / "journal.jsonl"
    assert run.weights == run.folder / "weights/best.safetensors"


def test_objects_of_one_folder_are_equal(tmp_path: Path) -> None:
    first, again, other = (Run(tmp_path / name) for name in ("a", "a", "b"))
    assert first == again
    assert len({first, again, other}) == 2


def test_the_config_is_the_frozen_one(run: Run) -> None:
    assert run.config.batch == composed().batch
    assert run.config is run.config, "read once"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"batch: no\n", "was changed after the run was frozen"),
        (b"", "was changed after the run was frozen"),
        (b"\xff", "was changed after the run was frozen"),
        (None, "No such file or directory"),
    ],
)
def test_a_config_that_is_not_the_frozen_one_is_an_error(
    run: Run, content: bytes | None, expected: str
) -> None:
    path = run.folder / "config.yaml"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"config\.yaml: {expected}") as caught:
        _ = run.config
    assert "\n" not in str(caught.value)
    assert run.problem() == str(caught.value)


def test_a_config_of_version_0_1_is_compared_by_its_settings(run: Run) -> None:
    """It recorded the settings, not the digest of the file."""
    create = {key: value for key, value in run.history().create.items() if key != "config_sha256"}
    run.journal.write_bytes(journals.encode(create))
    path = run.folder / "config.yaml"
    text = path.read_text()
    assert Run(run.folder).config.batch == composed().batch
    path.write_text(text + "# a comment\n")
    assert Run(run.folder).problem() is None
    path.write_text(text.replace(f"batch: {composed().batch}", "batch: 77"))
    with pytest.raises(ConfigError, match="batch is 77 and was"):
        _ = Run(run.folder).config
    for wrong in ("", "[1, 2]", "a: [", "\0"):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match=r"config\.yaml: ") as caught:
            _ = Run(run.folder).config
        assert "\n" not in str(caught.value)


def test_an_artifact_is_compared_with_its_last_record(run: Run) -> None:
    path = "weights/best.safetensors"
    with pytest.raises(ValueError, match=r"best\.safetensors is missing; .* sync --outputs"):
        run.verified(path)
    (run.folder / "weights").mkdir()
    (run.folder / path).write_text("first")
    assert run.verified(path) == run.folder / path, "the journal does not have it"
    for content in ("second", "third!"):
        (run.folder / path).write_text(content)
        run.add_artifacts([path])
        assert run.verified(path) == run.folder / path
    for damaged, expected in (("second", "does not match"), ("", "has 0 bytes instead of 6")):
        (run.folder / path).write_text(damaged)
        with pytest.raises(ValueError, match=expected) as caught:
            run.verified(path)
        assert "\n" not in str(caught.value)
    (run.folder / path).unlink()
    (run.folder / path).symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="is not a plain file inside"):
        run.verified(path)
    for outside in ("../x", "/etc/passwd"):
        with pytest.raises(ValueError, match="is not a plain file inside"):
            run.verified(outside)


def test_a_run_that_is_removed_is_damaged_and_does_not_come_back(run: Run) -> None:
    before = run.history()
    shutil.rmtree(run.folder)
    history = run.history()
    assert (history.status, history.name) == (RunStatus.DAMAGED, before.name)
    assert history.error == f"{run.journal} was removed"
    assert not run.is_live()
    with pytest.raises(OSError, match=run.id):
        run.add_tags({"a": "b"})
    with pytest.raises(JournalError, match="No such file"):
        Run(run.folder).history()
    assert not run.folder.exists()


def test_the_journal_is_parsed_again_only_when_it_has_changed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []

    def counted(path: Path) -> History:
        parsed.append(path)
        return read_history(path)

    monkeypatch.setattr(runs, "read_history", counted)
    assert run.history() is run.history()
    assert (run.status, run.is_finished, run.required_threads) == (RunStatus.CREATED, False, 1)
    assert run.target() is not None
    assert len(parsed) == 1
    record_training(run, 0.5)
    assert run.history().status is RunStatus.FINISHED
    assert run.is_finished
    assert len(parsed) == 2
    assert Run(run.folder).history() == run.history()
    assert len(parsed) == 3, "another object reads for itself"


def test_a_journal_without_its_first_record_is_an_error(run: Run) -> None:
    run.journal.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(JournalError, match="create record"):
            run.history()
    run.journal.unlink()
    run.journal.mkdir()
    with pytest.raises(JournalError, match=r"journal\.jsonl: Is a directory"):
        run.history()


SERVER = ("tracking=server", "tracking.uri=http://host:5000")


@pytest.mark.parametrize(
    ("overrides", "uri"),
    [(("tracking=local",), "local"), (("tracking=none",), None), (SERVER, "http://host:5000")],
)
def test_the_target_is_the_store_of_the_settings(
    tmp_path: Path, overrides: tuple[str, ...], uri: str | None
) -> None:
    run = new_run(tmp_path, *overrides)
    target = run.target()
    if uri == "local":
        assert target == Target.local(tmp_path)
    else:
        assert (target and target.uri) == uri


def test_an_address_counts_only_with_tracking_server(run: Run) -> None:
    """A run that an earlier version froze with both was delivered to the local store."""
    params = run.history().params
    params.update({"tracking.name": "local", "tracking.uri": "http://host:5000"})
    assert run.target() == Target.local(run.outputs)


def test_the_required_threads_are_those_of_the_first_start(tmp_path: Path) -> None:
    assert new_run(tmp_path, "threads=3").required_threads == 3
    run = new_run(tmp_path, "threads=auto")
    assert run.required_threads == 1
    with run.writing() as journal:
        journal.append("start", **liveness.this_process(), threads=2, backend="numpy")
    assert run.required_threads == 2


def test_the_dataset_is_divided_as_it_was_frozen(tmp_path: Path, idx_folder: Path) -> None:
    overrides = small(idx_folder, "dataset.num_train=100", "dataset.split_seed=7")
    run = new_run(tmp_path, *overrides)
    digest = extraction.prepare("idx", str(idx_folder), run.cache)
    run.history().create["dataset"]["sha256"] = digest
    data = run.dataset()
    expected = dataset.open_dataset(digest, run.cache, Split(40, 100, 7))
    assert (len(data.train), len(data.test)) == (100, 100)
    assert data.val is not None
    assert expected.val is not None
    assert len(data.val) == 40
    for part, other in ((data.train, expected.train), (data.val, expected.val)):
        np.testing.assert_array_equal(part.rows, other.rows)


def test_a_dataset_that_is_not_in_the_cache_is_an_error(run: Run) -> None:
    with pytest.raises(ValueError, match="abab"):
        run.dataset()


def test_a_journal_that_seems_shorter_than_what_was_delivered_is_asked_for_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client of a network file system may show it as it was before the delivery."""
    record_training(run, 0.5)
    newest = run.journal.read_bytes()
    write_text(run.folder / "delivered.json", f'{{"offset": {len(newest)}}}')
    run.journal.write_bytes(newest[: newest.index(b"\n") + 1])
    monkeypatch.setattr(runs, "revalidate", lambda path: path.write_bytes(newest))
    assert run.history().status is RunStatus.FINISHED


def test_only_one_process_writes(trained_elsewhere: Run) -> None:
    run = trained_elsewhere
    before = run.journal.read_bytes()
    assert run.is_live()
    with pytest.raises(Timeout), run.writing(0):
        pass
    assert run.journal.read_bytes() == before


def test_a_lock_that_a_command_holds_for_a_moment_is_no_training(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two commands that tag a run at once; the second one said that it was still training."""
    monkeypatch.setattr(runs, "WRITING_S", 60.0)
    other = locked_for(run, 0.3)
    assert not run.is_training()
    other.join()
    monkeypatch.setattr(runs, "WRITING_S", 0.1)
    with run.lock():
        assert run.is_training(), "it is held for longer"


def test_a_run_that_says_so_is_training_at_once(
    trained_elsewhere: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "POLL_S", 60.0)
    with journals.Journal(trained_elsewhere.journal) as journal:
        journal.append("start", **liveness.this_process(), threads=1, backend="numpy")
    assert trained_elsewhere.is_training()


def test_writing_holds_the_lock(run: Run) -> None:
    assert not run.is_live()
    with run.writing() as journal:
        assert run.is_live()
        journal.append("tags", tags={"a": "b"})
    assert not run.is_live()
    assert run.history().tags["a"] == "b"


def test_tags_and_artifacts_are_added(run: Run) -> None:
    run.add_tags({"a": "1", "b": "2"})
    run.add_tags({"a": "3"})
    for path in ("plots/x.png", "report/y.html"):
        (run.folder / path).parent.mkdir()
        write_text(run.folder / path, path)
    run.add_artifacts(["plots/x.png", "report/y.html"])
    history = run.history()
    assert (history.tags["a"], history.tags["b"]) == ("3", "2")
    assert history.tags["run.id"] == run.id
    assert list(history.artifacts) == ["plots/x.png", "report/y.html"]
    assert all(each.damage(run.folder) is None for each in history.artifacts.values())


def test_a_run_joins_a_sweep_once(run: Run) -> None:
    run.join_sweep("first", "1/2")
    assert run.history().tags["sweep"] == "first"
    run.join_sweep("second", "2/3")
    size = run.journal.stat().st_size
    for sweep in ("first", "second"):
        run.join_sweep(sweep, "9/9")
    assert run.journal.stat().st_size == size
    tags = run.history().tags
    assert (tags["sweep"], tags["sweep.job"]) == ("first,second", "2/3")


def test_pruning_is_a_tag(run: Run) -> None:
    record_training(run, 0.5, status=None)
    run.mark_pruned(1)
    history = run.history()
    assert (history.status, history.tags[PRUNED]) == (RunStatus.KILLED, "true")
    assert history.is_pruned
    record_training(run, 0.5, 0.4)
    assert PRUNED not in run.history().tags


def start_of_dead_process() -> dict[str, object]:
    """A start record of this pid before it was reused."""
    return liveness.this_process() | {"process_started": 1.0}


def test_a_run_whose_process_died_is_closed(run: Run) -> None:
    with run.writing() as journal:
        journal.append("start", **start_of_dead_process(), threads=1, backend="numpy")
    history = run.close_abandoned(RunStatus.FAILED, "why")
    assert (history.status, history.error) == (RunStatus.FAILED, "why")
    size = run.journal.stat().st_size
    assert run.close_abandoned(RunStatus.KILLED, "again") == history
    assert run.journal.stat().st_size == size, "a run that is over is left alone"


def test_a_run_that_ends_while_it_is_looked_at_keeps_its_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process writes the end record and exits after the journal was read."""
    with run.writing() as journal:
        journal.append("start", **start_of_dead_process(), threads=1, backend="numpy")

    def end(start: journals.Record) -> bool:
        if run.status is RunStatus.RUNNING:
            with Run(run.folder).writing() as journal:
                journal.append("end", status=RunStatus.FINISHED, error=None)
        return False

    monkeypatch.setattr(liveness, "is_running", end)
    assert run.close_abandoned(RunStatus.FAILED, "why").status is RunStatus.FINISHED
    assert Run(run.folder).status is RunStatus.FINISHED


def test_a_live_run_is_not_closed(run: Run) -> None:
    record_training(run, 0.5, status=None)
    assert run.close_abandoned(RunStatus.KILLED, "why").status is RunStatus.RUNNING
    assert run.close_abandoned(RunStatus.KILLED, "why", started=False).status is RunStatus.RUNNING


def test_a_locked_run_is_not_closed(trained_elsewhere: Run) -> None:
    run = trained_elsewhere
    history = run.close_abandoned(RunStatus.KILLED, "why", started=False)
    assert history.status is RunStatus.CREATED


def test_a_lock_that_is_held_for_a_moment_is_awaited(run: Run) -> None:
    """By a process that looks whether the run lives, as the delivery does."""
    with run.writing() as journal:
        journal.append("start", **start_of_dead_process(), threads=1, backend="numpy")
    looking = locked_for(run, 0.5)
    assert run.close_abandoned(RunStatus.KILLED, "why").status is RunStatus.KILLED
    looking.join()


def test_a_run_that_never_started_is_closed_only_when_its_process_is_known_to_be_dead(
    run: Run,
) -> None:
    assert run.close_abandoned(RunStatus.FAILED, "why").status is RunStatus.CREATED
    assert run.close_abandoned(RunStatus.FAILED, "why", started=False).status is RunStatus.FAILED


def test_a_run_can_be_bound_for_another_store(tmp_path: Path) -> None:
    run = new_run(tmp_path, "tracking=server", "tracking.uri=http://old:5000")
    assert run.target() == Target("http://old:5000")
    run.bind(Target("http://new:5000"))
    assert run.target() == Target("http://new:5000")
    run.bind(Target.local(tmp_path))
    assert run.target() == Target.local(tmp_path)
