"""Run keys and sweep ids: what they depend on, and which existing run a key finds."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from harness.runfolder import config as configuration
from harness.runfolder import keys
from harness.runfolder.folder import all_runs
from harness.runfolder.run import Run
from tests.conftest import composed, new_run, record_training

# The settings that change where a result goes or how fast it comes, but not the result.
CHANGE_NOTHING = {
    "outputs", "threads", "dataset.dir", "dataset.file", "dataset.label",
    "tracking.name", "tracking.uri", "tracking.experiment", "tracking.patience",
    "tracking.diff",
    "checkpoint.every", "checkpoint.keep", "checkpoint.milestones",
}  # fmt: skip
OPTIONS = (
    (), ("optimizer=momentum", "schedule=onecycle", "augmentation=elastic"),
    ("optimizer=adam", "schedule=step", "augmentation=affine"),
)  # fmt: skip


@pytest.mark.parametrize("overrides", OPTIONS)
def test_which_settings_determine_a_result(overrides: tuple[str, ...]) -> None:
    names = configuration.leaves(composed(*overrides))
    assert {name for name in names if not keys.determines_result(name)} == CHANGE_NOTHING


def test_groups_are_named_by_their_first_part() -> None:
    for key in ("tracking", "checkpoint"):
        assert not keys.determines_result(key), "the group itself, as in `tracking=none,local`"
    for key in ("dataset", "dataset.num_val", "optimizer", "seed", "backend"):
        assert keys.determines_result(key)


def test_a_run_key_changes_with_what_determines_the_result() -> None:
    config = composed()
    key = keys.run_key(config, "data")
    assert len(key) == 16
    assert keys.run_key(replace(config, outputs="elsewhere", threads=7), "data") == key
    tracking = replace(config.tracking, name="none", patience=1.0)
    assert keys.run_key(replace(config, tracking=tracking), "data") == key
    others = {
        keys.run_key(replace(config, seed=2), "data"),
        keys.run_key(replace(config, backend="numpy"), "data"),
        keys.run_key(config, "other data"),
    }
    assert len(others | {key}) == 4


def test_a_run_key_changes_with_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    key = keys.run_key(composed(), "data")
    monkeypatch.setattr(keys, "source_digest", lambda: "another")
    assert keys.run_key(composed(), "data") != key


def test_the_source_digest_covers_the_three_rooms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in ("data", "nn/compiled", "training", "job"):
        (tmp_path / room).mkdir(parents=True)
        (tmp_path / room / "module.py").write_text("before = 1")
    monkeypatch.setattr(keys, "SOURCE", tmp_path)
    digests = []
    for path in ("", "job/module.py", "data/module.py", "nn/compiled/module.py", "nn/new.py"):
        if path:
            (tmp_path / path).write_text("after = 1")
        digests.append(keys.source_digest.__wrapped__())
    assert digests[0] == digests[1], "the job room determines no result"
    assert len(set(digests)) == 4


BEFORE = '''
"""A module."""
def f(x: float, *, y=None) -> str:
    """What it does."""
    return f"{x!r:>{y}}" "é" + {**{}, "a": (1.5, None)}["a"]  # why
class C:
    """Only a docstring."""
'''
SAME = '''
# Another comment.
"""Other words."""
def f(x: float, *, y=None) -> str:

    return f"{x!r:>{y}}" 'é' + {**{}, "a": (
        1.5, None)}["a"]
class C:
    "Shorter."
'''
# Of BEFORE: the same in every version of Python, or an upgrade of Python would train all again.
DIGEST = "96255897e86a1431d733880038b3e1e805fdaeabc512c7ca202e6dbbaeb530e5"


def digest_of(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The source digest of a package with this one module."""
    (folder / "nn").mkdir(exist_ok=True)
    (folder / "nn/module.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(keys, "SOURCE", folder)
    return keys.source_digest.__wrapped__()


def test_comments_docstrings_and_layout_change_no_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert digest_of(tmp_path, BEFORE, monkeypatch) == DIGEST
    assert digest_of(tmp_path, SAME, monkeypatch) == DIGEST


@pytest.mark.parametrize(
    ("old", "new"),
    [("1.5", "1.25"), ("None)", "0)"), ("!r", "!s"), ("C:", "D:"), ('"é"', '"""e"""'),
     ("return", 'x = 1; "text"; return'), (">{y}", "<{y}")],
)  # fmt: skip
def test_every_other_edit_changes_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    assert old in BEFORE
    assert digest_of(tmp_path, BEFORE.replace(old, new), monkeypatch) != DIGEST


def test_a_sweep_id_is_that_of_the_set_of_its_keys() -> None:
    assert keys.sweep_id(["a", "b"]) == keys.sweep_id(["b", "a", "b"])
    assert keys.sweep_id(["a", "b"]) != keys.sweep_id(["a"])
    assert len(keys.sweep_id(["a"])) == 10


def test_settings_that_change_no_result_can_be_part_of_a_key() -> None:
    params = {"threads": 2, "batch": 16}
    assert keys.full_key("k", params, ()) == ("k",)
    assert keys.full_key("k", params, ["threads", "outputs"]) == ("k", "2", "None")


def aged(run: Run, second: int) -> Run:
    """The run with a config file of this time: runs of one second are ordered by it."""
    os.utime(run.folder / "config.yaml", (second, second))
    return run


def by_key(outputs: Path, *also: str) -> dict[keys.Key, Run]:
    return keys.runs_by_key(all_runs(outputs), {"key"}, also)


def test_only_the_journals_of_wanted_keys_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(tmp_path)
    new_run(tmp_path, run_key="other")
    read, history = [], Run.history
    monkeypatch.setattr(Run, "history", lambda self: (read.append(self), history(self))[1])
    assert by_key(tmp_path) == {("key",): run}
    assert set(read) == {run}


def test_the_newest_finished_run_of_a_key_is_built_on(tmp_path: Path) -> None:
    first, second, third, fourth = (aged(new_run(tmp_path), second) for second in range(4))
    assert by_key(tmp_path)[("key",)].id == fourth.id, "none is finished: the newest"
    record_training(first, 0.5)
    record_training(second, 0.5)
    record_training(third, 0.5, status="FAILED", error="why")
    assert by_key(tmp_path)[("key",)].id == second.id


def test_runs_of_one_key_are_told_apart_by_other_settings(tmp_path: Path) -> None:
    one, two = new_run(tmp_path, "threads=1"), new_run(tmp_path, "threads=2")
    existing = by_key(tmp_path, "threads")
    assert {key: run.id for key, run in existing.items()} == {
        ("key", "1"): one.id, ("key", "2"): two.id,
    }  # fmt: skip


def test_a_damaged_run_is_skipped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = record_training(new_run(tmp_path), 0.5)
    content = bytearray(run.journal.read_bytes())
    content[-3] ^= 1
    run.journal.write_bytes(content)
    assert by_key(tmp_path) == {}
    assert str(run.journal) in caplog.text


def test_the_digest_of_the_source_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = keys.source_digest()
    spelled: list[bytes] = []
    spell = keys.syntax.spell

    def noted(source: bytes) -> str:
        spelled.append(source)
        return spell(source)

    monkeypatch.setattr(keys.syntax, "spell", noted)

    def again() -> bool:
        """Whether the source was read as syntax."""
        spelled.clear()
        keys.source_digest.cache_clear()
        assert keys.source_digest() == expected
        return bool(spelled)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert [again(), again()] == [True, False]
    (kept,) = (tmp_path / "scratch-harness/source").iterdir()
    assert kept.read_text() == expected
    for damaged in ("", expected[:-1], "\0" * 64):
        kept.write_text(damaged)
        assert [again(), again()] == [True, False], "it is replaced"
    monkeypatch.setattr(keys, "DETERMINING_SOURCE", ("data",))
    keys.source_digest.cache_clear()
    assert keys.source_digest() != expected, "other files"
    monkeypatch.undo()
    keys.source_digest.cache_clear()


def test_without_a_cache_the_source_is_read_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = keys.source_digest()
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keys.source_digest.cache_clear()
    assert keys.source_digest() == expected
