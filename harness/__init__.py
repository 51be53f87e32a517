"""A research harness for small neural networks written from scratch in NumPy.

From Python: `harness.train`, `harness.sweep`, `harness.open`, and as data frames `harness.runs`,
`harness.curves`, `harness.settings`. They are imported when first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.analysis.frames import curves, runs, settings
    from harness.job.training_run import TrainingRun
    from harness.run.python import TrainingFailed, open, sweep, train
    from harness.runfolder.run import Run
    from harness.runfolder.sweep import Sweep

__version__ = "0.1.0"
__all__ = [
    "Run", "Sweep", "TrainingFailed", "TrainingRun",
    "curves", "open", "runs", "settings", "sweep", "train",
]  # fmt: skip
_MODULES = {
    "Run": "harness.runfolder.run",
    "Sweep": "harness.runfolder.sweep",
    "TrainingRun": "harness.job.training_run",
    **dict.fromkeys(("curves", "runs", "settings"), "harness.analysis.frames"),
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES.get(name, "harness.run.python")), name)
