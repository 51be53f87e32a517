"""Pictures, drawn after the training from what was recorded."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.files import write_atomically

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
