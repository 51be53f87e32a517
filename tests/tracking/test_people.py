"""What people do to delivered runs in MLflow is theirs: `sync` neither undoes nor repeats it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from harness.data.atomic import write_text
from harness.runfolder import delivered
from harness.runfolder.about import NOTE
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking.store import Store
from tests.conftest import Command, new_run, record_training
from tests.tracking.conftest import fresh_store
from tests.tracking.test_faults import running

pytestmark = [
    pytest.mark.service,
    pytest.mark.filterwarnings("ignore"),  # MLflow's own
]


@pytest.fixture(params=["sqlite", "http"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    """The store in outputs, and a server."""
    if request.param == "sqlite":
        fresh_store(tmp_path / "outputs")
        yield Target.local(tmp_path / "outputs")
        return
    with running(tmp_path / "server") as server:
        server.start()
        yield Target(server.uri)


def make(outputs: Path, target: Target, name: str) -> Run:
    """A finished run with a note, and a file that somebody may delete in the store."""
    where = () if target.artifacts else ("tracking=server", f"tracking.uri={target.uri}")
    run = record_training(new_run(outputs, *where, name=name, **{NOTE: "ours"}), 0.5, 0.25)
    write_text(run.folder / "extra.txt", "content")
    run.add_artifacts(["extra.txt"])
    return run


def stored(client: MlflowClient, run: Run) -> object:
    """Everything that MLflow has of a run, but for the time of its last change."""
    found = client.get_run(run.delivered()["mlflow_id"])
    rows = {key: sorted((point.step, point.value, point.timestamp) for point in
                        client.get_metric_history(found.info.run_id, key))
            for key in found.data.metrics}  # fmt: skip
    info = found.info
    return (info.run_name, info.status, info.lifecycle_stage, info.experiment_id,
            found.data.params, found.data.tags, rows)  # fmt: skip


def test_what_people_do_to_delivered_runs_stays(
    command: Command, tmp_path: Path, target: Target
) -> None:
    outputs = tmp_path / "outputs"
    kept, gone = (make(outputs, target, name) for name in ("kept", "gone"))
    done = command("harness", "sync")
    assert (done.returncode, done.stderr) == (0, "")
    client = Store(target).client
    kept_id, gone_id = (run.delivered()["mlflow_id"] for run in (kept, gone))
    experiment = client.get_run(kept_id).info.experiment_id
    client.log_metric(kept_id, "my/score", 0.75, step=3)
    client.log_param(kept_id, "my.param", "mine")
    client.set_tag(kept_id, "my tag", "mine")
    client.set_tag(kept_id, NOTE, "theirs")
    client.update_run(kept_id, name="the good one")
    client.rename_experiment(experiment, "paper")
    client.delete_run(gone_id)
    unknown = command("harness", "status", "paper")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)
    assert "the others know those of experiments after `python -m harness sync`" in unknown.stderr
    before = stored(client, kept), stored(client, gone)
    for words in ([], ["--verify"], [kept.id, gone.id], []):
        done = command("harness", "sync", *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert "1 of 2 runs delivered in full" in done.stdout
        assert f"{gone.id}: was deleted in the store and stays deleted" in done.stdout
        assert (stored(client, kept), stored(client, gone)) == before
    line = f"1 run(s) were deleted in MLflow and still count here: {gone.id}; "
    assert line in command("harness", "status").stdout
    assert line in command("harness", "compare", kept.id, gone.id, "--no-attach").stderr
    assert "deleted" not in command("harness", "status", kept.id).stdout
    for name in ("paper", "mnist"):
        listed = json.loads(command("harness", "status", name, "--json").stdout)["runs"]
        assert {each["run"] for each in listed} == {kept.id, gone.id}, "by either name"
    noted = command("harness", "note", gone.id, "kept here")
    assert (noted.returncode, noted.stderr.count("\n")) == (0, 1)
    assert noted.stderr.startswith(f"note: {gone.id} was deleted in the store and stays deleted; ")
    kept.add_tags({"more": "ours"})  # something new of the same run
    (kept.folder / delivered.FILE_NAME).unlink()  # and nothing says how much was sent
    (gone.folder / delivered.FILE_NAME).unlink()
    assert command("harness", "sync").returncode == 0
    name, status, stage, where, params, tags, rows = stored(client, kept)  # type: ignore[misc]
    assert tags.pop("more") == "ours"
    assert ((name, status, stage, where, params, tags, rows), stored(client, gone)) == before
    every = client.search_runs([experiment], run_view_type=3)
    assert sorted(run.info.run_id for run in every) == sorted([kept_id, gone_id])
    names = {each.name for each in client.search_experiments()}
    assert names == {"paper", "Default"}, "no second experiment of the old name"


def test_a_run_that_is_sent_again_keeps_the_note_of_the_store(
    command: Command, tmp_path: Path, target: Target
) -> None:
    """It is ours only as long as nobody wrote another; `harness note` writes a new one."""
    run = make(tmp_path / "outputs", target, "kept")
    assert command("harness", "sync").returncode == 0
    client, mlflow_id = Store(target).client, run.delivered()["mlflow_id"]
    client.set_tag(mlflow_id, NOTE, "theirs")
    client.update_run(mlflow_id, name="the good one", status="FAILED")
    done = command("harness", "sync")
    assert done.returncode == 0
    assert "sending 1 runs again" in done.stdout
    found = client.get_run(mlflow_id)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "the good one")
    assert found.data.tags[NOTE] == "theirs"
    assert command("harness", "note", run.id, "new").returncode == 0
    assert client.get_run(mlflow_id).data.tags[NOTE] == "new"
