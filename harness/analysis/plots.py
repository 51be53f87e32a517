"""Pictures, drawn after the training from what was recorded."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.files import write_atomically

if TYPE_CHECKING:
    from optuna import Study

Curves = dict[str, list[float]]


def learning_curves(path: Path, title: str, loss: Curves, error: Curves) -> None:
    """Loss and error against the epoch, side by side, as a PNG.

    loss (nats) and error (fractions): one list per name with a value per epoch from 1 on; drawn on
    a logarithmic axis, because the interesting part is near zero.
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    both = zip(figure.subplots(1, 2), (loss, error), ("loss (nats)", "error (%)"), strict=True)
    for axes, curves, label in both:
        factor = 100 if curves is error else 1
        for name, values in curves.items():
            if values:
                epochs = range(1, len(values) + 1)
                axes.plot(epochs, [factor * v for v in values], label=name, marker=".")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        if any(value > 0 for values in curves.values() for value in values):
            axes.set_yscale("log")
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))


def search(folder: Path, study: "Study") -> list[str]:
    """Optuna's history of a search and the importance of its keys, under `folder`/plots.

    Returns the pictures' relative paths; importance needs at least two finished trials whose values
    differ.
    """
    import matplotlib

    matplotlib.use("Agg")  # Optuna draws through pyplot, which would look for a screen
    from matplotlib import pyplot
    from optuna.exceptions import ExperimentalWarning
    from optuna.trial import TrialState
    from optuna.visualization import matplotlib as drawing

    wanted: dict[str, Callable[..., Any]] = {
        "plots/search_history.png": drawing.plot_optimization_history
    }
    if len({trial.value for trial in study.get_trials(states=(TrialState.COMPLETE,))}) > 1:
        wanted["plots/search_importance.png"] = drawing.plot_param_importances
    for path, draw in wanted.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            figure = draw(study, target_name="validation error").figure
        figure.set_layout_engine("constrained")
        write_atomically(folder / path, partial(figure.savefig, format="png", dpi=110))
        pyplot.close(figure)
    return list(wanted)
