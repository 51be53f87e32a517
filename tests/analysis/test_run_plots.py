"""The plots of a run: drawn once, recorded in its journal, of the data it was trained on."""

from pathlib import Path

import numpy as np
import pytest

from harness.analysis import run_plots
from harness.data.augmentation import Augmentation
from harness.data.dataset import Part
from harness.runfolder.run import Run
from tests.conftest import Command, new_run, record_training, run_folders

CURVES, SAMPLES = run_plots.LEARNING_CURVES, run_plots.AUGMENTATION


def test_drawn_and_noted_once(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    small = (
        "dataset=idx",
        f"dataset.dir={idx_folder}",
        "dataset.num_val=40",
        "width=8",
        "epochs=2",
        "backend=numpy",
    )
    command("harness.run", "-m", *small, "augmentation=none,elastic", "tracking=none", timeout=600)
    folders = list(run_folders(tmp_path / "outputs"))
    for folder, expected in zip(folders, ([CURVES], [CURVES, SAMPLES]), strict=True):
        for _ in range(2):
            run_plots.draw(Run(folder))
            noted = Run(folder).history().artifacts
            assert [path for path in noted if path.startswith("plots/")] == expected
        names = {f"plots/{path.name}" for path in (folder / "plots").iterdir()}
        assert names == set(expected)
        for path in expected:
            assert (folder / path).read_bytes().startswith(b"\x89PNG")


def test_the_second_panel_is_the_metric_of_the_objective(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panels: list[dict[str, dict[str, list[float]]]] = []
    monkeypatch.setattr(run_plots.plots, "learning_curves", lambda *given: panels.append(given[2]))
    for text in ("val/error", "val/loss", "val/loss:max", "train/error"):
        run = record_training(new_run(tmp_path, f"objective={text}"), 0.5, 0.25)
        run_plots._learning_curves(run, run.history())
    loss, error = {"train": [], "validation": [0.5, 0.25]}, {"train": [], "validation": [50, 25]}
    assert panels == [
        {"error (%)": error},
        {"loss (nats)": loss},
        {"loss (nats)": loss},
        {"error (%)": {"train": [50, 25], "validation": []}},
    ]


def test_samples_are_seeded_and_of_the_training_part() -> None:
    generator = np.random.default_rng(2)
    pixels = generator.integers(1, 256, (60, 48)).astype(np.uint8)
    part = Part(pixels, np.arange(60, dtype=np.uint8) % 12, np.arange(20, 60, dtype=np.uint32))
    augmentation = Augmentation((8, 6), rotation=10, shift=1)
    first, again, other = (
        run_plots.samples(part, augmentation, (8, 6), seed) for seed in (1, 1, 2)
    )
    assert first.shape == (10, 1 + run_plots.DEFORMED, 8, 6)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[:, 0], other[:, 0])
    # Classes 0..11 begin at rows 20..31 of the part, whose classes are 8, 9, 10, 11, 0, ...
    classes = {row % 12: row for row in range(31, 19, -1)}
    stored = pixels[sorted(classes[label] for label in range(10))]
    np.testing.assert_array_equal(first[:, 0].reshape(10, -1), stored)
    flat = first.reshape(10, 1 + run_plots.DEFORMED, -1)
    for one in flat:
        assert len(np.unique(one, axis=0)) == 1 + run_plots.DEFORMED
    assert not np.array_equal(first[:, 1:], other[:, 1:])
