"""Shared by the tests of tracking: run folders as jobs leave them, and a real local store."""

import hashlib
import math
import tempfile
import warnings
from functools import cache
from pathlib import Path

import pytest

from harness.data.atomic import write_text
from harness.run import compose
from harness.runfolder import journal
from harness.runfolder.artifacts import Artifact
from harness.runfolder.config import to_yaml
from harness.runfolder.journal import Journal
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking import mlflow_private
from harness.tracking.delivery import Delivery
from harness.tracking.store import Store


@cache
def default_config() -> str:
    return to_yaml(compose.compose_one([]))


def make_run(outputs: Path, run: str, *, epochs: int = 5, status: str | None = "FINISHED") -> Path:
    """A run folder as a job leaves it."""
    folder = outputs / "runs" / run
    folder.mkdir(parents=True)
    write_text(folder / "config.yaml", default_config())
    with Journal(folder / journal.FILE_NAME) as writer:
        writer.append(
            "create",
            run=run,
            name="batch=16",
            params={
                "batch": 16, "dataset.dir": None, "width": "[8,4]",
                "tracking.name": "local", "tracking.uri": None, "checkpoint.milestones": 0,
            },
            tags={"run.id": run, "sweep": "s1,s2", "mlflow.source.name": "command"},
            experiment="mnist",
            config_sha256=hashlib.sha256(default_config().encode()).hexdigest(),
            dataset={
                "name": "mnist", "sha256": "ab" * 32, "source": "mnist", "train": 1, "val": 2,
                "test": 3, "image_shape": [28, 28], "classes": 10,
            },
        )  # fmt: skip
        writer.append("start", host="h", pid=1, threads=2, backend="numpy")
        for epoch in range(1, epochs + 1):
            values = {"train/loss": math.pi / epoch, "val/error": 1 / (3 * epoch)}
            writer.append("epoch", epoch=epoch, metrics=values)
        if status is not None:
            writer.append("artifact", **Artifact.measure(folder, "config.yaml").record())
            writer.append("final", epoch=epochs, metrics={"test/error": 0.1 + 0.2})
            writer.append("end", status=status, error=None if status == "FINISHED" else "why")
    return folder


@cache
def empty_database() -> bytes:
    """A fresh database of MLflow, whose creation takes seconds."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        target = Target.local(Path(folder))
        mlflow_private.create_database(target)
        assert target.database is not None
        return target.database.read_bytes()


def fresh_store(outputs: Path) -> None:
    """Give `outputs` an empty store, unless it has one."""
    if not (outputs / "mlflow.db").exists():
        outputs.mkdir(parents=True, exist_ok=True)
        (outputs / "mlflow.db").write_bytes(empty_database())


def deliver(outputs: Path, *folders: Path) -> Delivery:
    """Deliver run folders to the local store of `outputs`; everything must arrive."""
    fresh_store(outputs)
    delivery = Delivery(Target.local(outputs))
    for folder in folders:
        delivery.follow(Run(folder))
    report = delivery.drain()
    assert report.undelivered == {}
    return delivery


def expected_points(folder: Path) -> dict[str, list[tuple[int, float, int]]]:
    """The metrics of a journal as the store should have them: step, value, time in ms."""
    points: dict[str, list[tuple[int, float, int]]] = {}
    for record in journal.read(folder / journal.FILE_NAME)[0]:
        for key, value in record.get("metrics", {}).items():
            points.setdefault(key, []).append((record["epoch"], value, record["ms"]))
    return points


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def store(outputs: Path) -> Store:
    fresh_store(outputs)
    return Store(Target.local(outputs))
