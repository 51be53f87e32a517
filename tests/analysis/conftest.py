"""Runs for the tests of a comparison: plain values, and run folders as a job leaves them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.analysis import compare
from harness.analysis.outcome import Outcome
from harness.analysis.page import Comparison
from harness.analysis.seed_run import SeedRun
from harness.nn import metrics
from harness.runfolder import checkpoint, journal
from harness.runfolder.journal import Journal
from harness.runfolder.objective import DEFAULT, Objective
from harness.runfolder.run import Run
from harness.tracking.recorded import Journals, Recorded, from_journal
from harness.tracking.selection import Selection

VALIDATION = {metrics.VAL_ERROR, metrics.BEST_EPOCH, metrics.BEST_VAL_ERROR}
DIGEST = "ab" * 32


def seed_run(
    batch: object,
    seed: object,
    val: Sequence[float],
    test: float,
    objective: Objective = DEFAULT,
    **more: object,
) -> SeedRun:
    """A run of plain values. val: the objective per epoch; more: further settings."""
    given = {"batch": str(batch), "seed": str(seed)}
    return SeedRun(
        run=f"{batch}-{seed}",
        name="",
        settings=given | {key: str(value) for key, value in more.items() if key != "data"},
        curves={objective.metric: np.array(val), metrics.EPOCH_S: np.full(len(val), 0.5)},
        final={objective.test_key: test},
        data=str(more.get("data", "d")),
        validation=str(more.get("data", "d")),
        test_count=1000,
        objective=objective,
    )


def outcome(wrong: Sequence[int], count: int = 1000) -> Outcome:
    """Predictions that are wrong for the images in `wrong`."""
    labels = np.zeros(count, np.uint8)
    predicted = labels.copy()
    predicted[list(wrong)] = 1
    return Outcome(labels, predicted, np.full(count, 0.9, np.float32))


def make_run(
    outputs: Path, batch: int, seed: int, *, status: str | None = "FINISHED",
    validation: bool = True, data: str = DIGEST, tests: int = 200, objective: str | None = None,
    label: str | None = None,
) -> Recorded:  # fmt: skip
    """A run folder as a job leaves it, whose errors follow from batch and seed."""
    generator = np.random.default_rng(1000 * batch + seed)
    run = f"{batch:03d}{seed:02d}-x"
    folder = outputs / "runs" / run
    folder.mkdir(parents=True)
    labels = np.arange(tests, dtype=np.uint8) % 4
    probabilities = generator.dirichlet(np.ones(4), tests).astype(np.float32) * 0.2
    right = generator.uniform(size=tests) > batch / 100
    probabilities[np.arange(tests), np.where(right, labels, (labels + 1) % 4)] += 0.8
    error = float((probabilities.argmax(axis=1) != labels).mean())
    with Journal(folder / journal.FILE_NAME) as writer:
        about = {"name": label or "idx", "sha256": data, "test": tests}
        writer.append(
            "create", run=run, name=f"batch={batch},seed={seed}", experiment="idx", dataset=about,
            params={"batch": batch, "seed": seed, "epochs": 3, "dataset.num_val": 40}
            | ({"objective": objective} if objective else {})
            | ({"dataset.label": label} if label else {}),
            tags={"run.id": run, "data.sha256": data, "run_key": run},
        )  # fmt: skip
        writer.append("start", host="h", pid=1, threads=1, backend="numpy")
        curve = np.array([0.5, batch / 100 + 0.001 * seed, batch / 90])
        for epoch, value in enumerate(curve, 1):
            values = {metrics.TRAIN_LOSS: 1 / epoch, metrics.VAL_ERROR: value, metrics.EPOCH_S: 0.1}
            if objective:
                values[Objective.parse(objective).metric] = 10 * value
            kept = values.keys() - (set() if validation else VALIDATION)
            writer.append("epoch", epoch=epoch, metrics={key: float(values[key]) for key in kept})
        if status == "FINISHED":
            final = {metrics.TEST_ERROR: error}
            if objective:
                final[Objective.parse(objective).test_key] = 10 * error
            writer.append("final", epoch=3, metrics=final)
        if status is not None:
            writer.append("end", status=status, error=None)
    (folder / "predictions").mkdir()
    np.savez(folder / "predictions/test.npz", labels=labels, probabilities=probabilities)
    weights = {"layer1.weights": generator.normal(size=(30, 8)).astype(np.float32)}
    checkpoint.save(folder / "weights/best.safetensors", weights, {"image_shape": [6, 5]})
    return from_journal(Run(folder))


def build(outputs: Path, *recorded: Recorded) -> Comparison:
    """The comparison of recorded runs."""
    sweep = Selection("sweep abc", list(recorded), Journals(), sweep="abc")
    comparison, _ = compare.build(sweep, outputs)
    return comparison


@pytest.fixture
def six(tmp_path: Path) -> list[Recorded]:
    """Three batch sizes with two seeds each."""
    return [make_run(tmp_path, batch, seed) for batch in (5, 6, 30) for seed in (1, 2)]
