"""`python -m harness register`: the best run of a sweep becomes the model that everybody uses."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.commands import status as overview
from harness.data.dataset import open_dataset
from harness.nn import metrics
from harness.recognizer import loading as calibrate
from harness.recognizer import registry as model
from harness.recognizer.registry import Version
from harness.runfolder import checkpoint, config, journal
from harness.runfolder import folder as runs
from harness.runfolder import plan as sweep
from harness.tracking.follower import read_state
from harness.tracking.target import Target

EXAMPLES = 2


@dataclass(frozen=True)
class Registered:
    """What was registered, and where."""

    version: Version
    run: str
    val_error: float | None
    store: str


def best_of(outputs: Path, wanted: str | None) -> Path:
    """The run to register: of a sweep (None: the newest) the best on validation, or that run.

    Raises `ValueError`.
    """
    plans = sweep.plans(outputs)
    if wanted is not None:
        matching = [plan for plan in plans if plan.id.startswith(wanted)]
        if not matching:
            return runs.find(outputs, wanted)
        plans = matching
    if not plans:
        raise ValueError(
            f"no sweep in {outputs}: run one with `python -m harness.run -m ...`, or name a run "
            "that `python -m harness status` lists"
        )
    folders = [runs.folder_of(outputs) / job.run for job in plans[-1].jobs]
    best = overview.best_row([journal.history(folder) for folder in folders])
    if best is None:
        raise ValueError(
            f"sweep {plans[-1].id}: none of its {len(folders)} runs is finished and has a "
            "validation error; name a run instead"
        )
    return folders[best]


def register(outputs: Path, wanted: str | None, name: str, alias: str) -> Registered:
    """Log, register and set the alias. Raises `ValueError` or `StoreError`."""
    folder = best_of(outputs, wanted)
    trained = calibrate.load_run(folder)
    told = journal.history(folder)
    tracking = config.read_yaml(folder / runs.CONFIG).tracking
    mlflow_id = read_state(folder).get("mlflow_id")
    if tracking.name == "none" or not mlflow_id:
        raise ValueError(
            f"run {folder.name} is not in a tracking store (tracking={tracking.name}); train with "
            "tracking=local or server, or deliver it with `python -m harness sync`"
        )
    target = Target(tracking.uri) if tracking.uri else Target.local(outputs)
    arrays, _ = checkpoint.load(folder / calibrate.WEIGHTS)
    data = open_dataset(told.create["dataset"]["sha256"], outputs / "cache", num_val=0)
    images = np.array(data.test.images[:EXAMPLES]).reshape(-1, *data.image_shape)
    version = model.register(
        target, str(mlflow_id), trained, arrays, name=name, alias=alias, example=images
    )
    return Registered(version, folder.name, told.final.get(metrics.BEST_VAL_ERROR), target.uri)
