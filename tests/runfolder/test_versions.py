"""Runs of other versions: what was added since, and what is which this version does not know."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.runfolder import config, keys, versions
from harness.runfolder import folder as folders
from harness.runfolder.config import ConfigError
from harness.runfolder.folder import Identity
from harness.runfolder.frozen_config import frozen_yaml, read_schema, read_yaml
from harness.runfolder.kinds import KINDS
from tests.conftest import ROOT, composed, new_run, record_training

FIRST = ROOT / "tests/evolution/0.1/outputs"  # runs of the first version


@pytest.fixture(autouse=True)
def nothing_named() -> Iterator[None]:
    """Each test gets its own warnings."""
    versions._named.clear()
    yield
    versions._named.clear()


def test_every_key_since_the_first_version_has_a_value_that_means_as_before() -> None:
    """A key added without one has none for the runs that do not have the key.

    Add it with `about(MEANING, default=AS_BEFORE)`, or `Kind(..., before=NAME)` for a part.
    """
    first: set[str] = set()
    for run in folders.all_runs(FIRST):
        first |= versions.completed(run.create["params"]).keys()
    own = {f"{kind}." for kind in KINDS}
    now = {
        key
        for key in config.leaves(composed())
        if not any(key.startswith(kind) for kind in own) or key.endswith(".name")
    }
    assert now - first == set()


def test_what_is_as_before_is_what_a_run_without_the_key_gets() -> None:
    for run in folders.all_runs(FIRST):
        assert versions.completed(run.create["params"]) == config.leaves(run.config)
        assert run.history().params == config.leaves(run.config)


def test_completed_settings_stay_as_they_are() -> None:
    leaves = config.leaves(composed("optimizer=adam", "objective=val/loss"))
    assert versions.completed(leaves) == leaves


def test_a_setting_that_became_a_part_has_the_key_of_its_name() -> None:
    params = versions.completed({"optimizer": "momentum", "batch": 8})
    assert params["optimizer.name"] == "momentum"
    assert params["optimizer.momentum"] == 0.9, "and the part's keys"
    assert "optimizer" not in params


def test_settings_of_another_trainer_are_only_those_that_it_has() -> None:
    params = versions.completed({"trainer.name": "mine:fit", "trainer.c": 2, "epochs": 3})
    assert params["objective"] == "val/error"
    assert params["weights"] == "best"
    assert "optimizer.name" not in params


def test_the_subject_of_an_older_run_is_that_of_the_same_job_now() -> None:
    (run,) = (run for run in folders.all_runs(FIRST) if run.history().name == "lr=0.2")
    same = composed(
        "dataset=idx", "dataset.dir=elsewhere", "dataset.num_val=40", "width=8", "seed=3",
        "backend=numpy", "batch=20", "epochs=3", "lr=0.2",
    )  # fmt: skip
    then = keys.subject(run.create["params"], "data")
    assert then == keys.subject(config.leaves(same), "data")
    other = config.leaves(same) | {"objective": "val/loss"}
    assert then != keys.subject(other, "data")


def test_a_setting_that_is_as_before_is_not_in_the_run_key() -> None:
    leaves = config.leaves(composed())
    assert not keys.subject(leaves, "data")["settings"].keys() & versions.before().keys()


@pytest.mark.parametrize(
    ("added", "named"),
    [
        ({"gamma": 1}, "gamma"),
        ({"optimizer.newkey": 1}, "optimizer.newkey"),
        ({"dataset.transform": "x"}, "dataset.transform"),
        ({"group.of": 1}, "group.of"),
        ({"optimizer.name": "lion", "optimizer.a": 1}, "optimizer=lion"),
    ],
)
def test_unknown_settings(added: dict[str, Any], named: str) -> None:
    leaves = config.leaves(composed())
    assert versions.unknown((leaves | added).items()) == (named,)


def test_options_of_own_parts_are_known() -> None:
    own = {"optimizer.name": "mine:Lion", "optimizer.anything": 1}
    assert versions.unknown((config.leaves(composed()) | own).items()) == ()
    assert versions.unknown([("activation", "sigmoid"), ("optimizer", "sgd")]) == ()


def newer(path: Path, **changes: Any) -> Path:
    """A frozen config.yaml with keys of a newer version."""
    content = yaml.safe_load(frozen_yaml(composed()))
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(content.get(key), dict) else value
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_schema_is_in_a_frozen_config_and_no_setting(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    content = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert content["schema"] == versions.SCHEMA == 3
    assert "schema" not in run.create["params"]
    assert run.config == read_yaml(run.folder / "config.yaml")
    assert not config.to_yaml(run.config).startswith("schema")


NEWER: list[tuple[dict[str, Any], str]] = [
    ({"gamma": 1, "optimizer": {"newkey": 2}, "dataset": {"transform": {"by": 3}}},
     "gamma, optimizer.newkey, dataset.transform.by"),
    ({"schema": 4, "gamma": 1}, "gamma"),
    ({"schema": 4}, "schema=4"),
    ({"more": {"a": 1, "b": []}}, "more.a, more.b"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "named"), NEWER)
def test_a_newer_config_is_read_with_one_warning(
    changes: dict[str, Any], named: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = newer(tmp_path / "config.yaml", **changes)
    assert read_yaml(path) == read_yaml(path) == composed()
    (warning,) = caplog.messages
    order = sorted(warning.partition(" wrote ")[2].partition(", which")[0].split(", "))
    assert warning.startswith(f"{path}: ")
    assert order == sorted(named.split(", "))


@pytest.mark.parametrize(("changes", "named"), NEWER)
def test_a_newer_config_is_not_trained(changes: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = newer(tmp_path / "config.yaml", **changes)
    with pytest.raises(ConfigError, match="train it with the newer one") as caught:
        read_yaml(path, to_train=True)
    assert str(path) in str(caught.value)
    assert all(each in str(caught.value) for each in named.split(", "))


def test_a_built_in_part_of_a_newer_version_is_read(tmp_path: Path) -> None:
    path = newer(tmp_path / "config.yaml", optimizer={"name": "lion", "a": 1})
    assert read_yaml(path).parts["optimizer"].name == "lion"
    with pytest.raises(ConfigError, match="optimizer=lion, which this version does not know"):
        read_yaml(path, to_train=True)


def test_a_part_without_a_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for node in ({"beta1": 0.9}, None, "", 3):
        path.write_text(
            yaml.safe_dump({**yaml.safe_load(config.to_yaml(composed())), "optimizer": node})
        )
        with pytest.raises(ConfigError, match="optimizer"):
            read_yaml(path)


@pytest.mark.parametrize(("schema", "ties"), [(1, "earliest"), (2, "earliest"), (3, "latest")])
def test_a_run_keeps_the_rule_of_ties_that_it_was_frozen_with(
    schema: int, ties: str, tmp_path: Path
) -> None:
    run = new_run(tmp_path)
    assert run.ties == "latest"
    older = folders.create(tmp_path, run.config, Identity("older", {}, {}), schema)
    assert older.ties == ties
    assert older.config == run.config
    path = newer(tmp_path / "config.yaml", schema=schema)
    assert read_schema(path) == schema, "wherever the key is"
    path.write_text(config.to_yaml(run.config))
    assert read_schema(path) == 1, "the first version had no key"


@pytest.mark.parametrize("schema", ["new", 0, None])
def test_a_schema_that_is_no_number_is_refused(schema: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"schema=.*: expected a whole number of at least 1"):
        read_yaml(newer(tmp_path / "config.yaml", schema=schema))


def test_a_newer_journal_is_read_and_not_trained(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = record_training(new_run(tmp_path), 0.5, status="KILLED")
    run.check_trainable()
    with run.writing() as journal:
        journal.append("pause", seconds=3)
    assert len(run.history().epochs) == 1
    assert run.history() == folders.open_run(tmp_path, run.id).history()
    (warning,) = caplog.messages
    assert warning.startswith(f"{run.journal}: ")
    with pytest.raises(
        ConfigError,
        match="kind=pause, which this version does not know; train it with the newer one",
    ):
        run.check_trainable()
