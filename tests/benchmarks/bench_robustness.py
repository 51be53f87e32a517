"""Errors of a trained network on MNIST's test digits, distorted as in drawings and photographs.

    python tests/benchmarks/bench_robustness.py [RUN] [--outputs DIR] [--images N] [--picture FILE]

Every test digit is rendered on a canvas at four times its size, and shifted, scaled, drawn with a
different stroke, inverted, drawn on gray or noisy paper, or rotated. "Without" preprocessing, the
whole canvas is shrunk to 28x28. "With" uses harness/recognizer/preprocess.py. Strokes are thinned
and thickened as in Morpho-MNIST (Castro et al., 2019), by a fraction of each digit's thickness.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from harness.data import dataset
from harness.data.atomic import write_atomically
from harness.recognizer.loading import load_run
from harness.recognizer.preprocess import preprocess
from harness.runfolder import environment
from harness.runfolder.folder import find

Picture = NDArray[np.uint8]
ZOOM = 4  # canvas pixels per MNIST pixel
Distortion = Callable[[Picture, np.random.Generator], Picture]


def enlarged(digit: Picture, factor: float = ZOOM, angle: float = 0.0) -> Picture:
    """A (28, 28) digit enlarged by `factor`, interpolated, and rotated by `angle` degrees."""
    image = Image.fromarray(digit)
    side = max(1, round(28 * factor))
    image = image.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image.rotate(angle, Image.Resampling.BICUBIC) if angle else image)


def pasted(
    canvas: int, drawing: Picture, random: np.random.Generator, reach: int | None
) -> Picture:
    """A drawing on a square canvas, up to `reach` pixels off center (None: anywhere)."""
    blank = np.zeros((canvas, canvas), np.uint8)
    ink = np.argwhere(drawing > 25)
    (top, left), (bottom, right) = ink.min(axis=0), ink.max(axis=0) + 1
    drawing = drawing[top:bottom, left:right]
    room = canvas - np.array(drawing.shape)
    middle = room / 2 if reach is None else np.array([top, left]) + (canvas - 28 * ZOOM) / 2
    half = room / 2 if reach is None else reach
    at = np.clip(np.rint(middle + random.uniform(-1, 1, 2) * half), 0, room).astype(int)
    blank[at[0] : at[0] + len(drawing), at[1] : at[1] + drawing.shape[1]] = drawing
    return blank


def thickness(drawing: Picture) -> float:
    """The mean thickness of the strokes in pixels, from the distance at their center lines."""
    distance = ndimage.distance_transform_edt(np.pad(drawing > 127, 1))
    ridge = (distance == ndimage.maximum_filter(distance, 3)) & (distance > 0)
    return float(2 * distance[ridge].mean())


def restroked(digit: Picture, change: float) -> Picture:
    """Strokes thickened (change > 0) or thinned by this fraction of the digit's thickness."""
    drawing = enlarged(digit)
    radius = abs(change) * thickness(drawing) / 2
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = x**2 + y**2 <= radius**2
    change_by = ndimage.grey_dilation if change > 0 else ndimage.grey_erosion
    framed = np.pad(drawing, 2 * ZOOM)
    changed = change_by(framed, footprint=disc)
    return changed if changed.max() > 127 else framed  # erosion would remove a very thin digit


def noisy(digit: Picture, random: np.random.Generator) -> Picture:
    """Pen on gray paper in uneven light, with noise of 16 gray values."""
    canvas = gray(digit, random).astype(float)
    canvas += random.normal(0, 16, canvas.shape)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def gray(digit: Picture, random: np.random.Generator) -> Picture:
    """A dark pen on gray paper (120 to 220) that is up to 30 gray values darker on one side."""
    drawing = enlarged(digit).astype(float) / 255
    paper, pen = random.uniform(120, 220), random.uniform(10, 60)
    slope = random.uniform(-30, 0) * np.linspace(0, 1, len(drawing))
    paper = paper + (slope[None, :] if random.random() < 0.5 else slope[:, None])
    return np.rint(paper * (1 - drawing) + pen * drawing).astype(np.uint8)


DISTORTIONS: dict[str, Distortion] = {
    "as in the test set": lambda digit, random: digit,
    "drawn 4 times as large": lambda digit, random: enlarged(digit),
    "shifted up to 10 px": lambda d, r: pasted(48 * ZOOM, enlarged(d), r, 10 * ZOOM),
    "scaled 0.5x to 3x": lambda d, r: pasted(
        28 * ZOOM, enlarged(d, np.exp(r.uniform(np.log(0.5), np.log(3)))), r, None
    ),
    "stroke thinned": lambda digit, random: restroked(digit, -0.7),
    "stroke thickened by half": lambda digit, random: restroked(digit, 0.5),
    "stroke thickened to double": lambda digit, random: restroked(digit, 1.0),
    "inverted": lambda digit, random: 255 - enlarged(digit),
    "gray paper": gray,
    "noisy gray paper": noisy,
    "rotated up to 15 degrees": lambda d, r: enlarged(d, angle=r.uniform(-15, 15)),
}


def shrunk(picture: Picture) -> Picture:
    """The whole canvas shrunk to 28x28, as without preprocessing."""
    if picture.shape == (28, 28):
        return picture
    return np.asarray(Image.fromarray(picture).resize((28, 28), Image.Resampling.BOX))


def draw(
    path: Path,
    rows: list[tuple[str, float, float]],
    shown: list[list[tuple[NDArray[np.uint8], NDArray[np.uint8] | None]]],
) -> None:
    """Draw sample digits as drawn and as preprocessed, beside the errors, as a PNG file.

    rows: name, error without and with preprocessing (fractions). shown: for each row the same
    digits as (canvas, preprocessed digit or None), gray values.
    """
    count = len(shown[0])
    figure = Figure(figsize=(9.5, 0.55 * len(rows) + 0.4))
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(rows), 2 * count + 8, left=0.01, right=0.99, bottom=0.01, top=0.95, wspace=0.1
    )
    for number, (name, without, with_it) in enumerate(rows):
        words = figure.add_subplot(grid[number, :7])
        words.axis("off")
        words.text(0, 0.5, name, va="center")
        for right, text, weight in ((0.8, without, "normal"), (1, with_it, "bold")):
            words.text(right, 0.5, f"{text:.2%}", va="center", ha="right", weight=weight)
        if number == 0:
            words.set_title("error without, with", loc="right", fontsize=10)
        for side, title in enumerate(("as drawn", "as the network sees it")):
            for column, pair in enumerate(shown[number]):
                axes = figure.add_subplot(grid[number, 7 + side * (count + 1) + column])
                axes.set_xticks([])
                axes.set_yticks([])
                image = pair[side]
                if image is not None:
                    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
                if number == 0 and column == 0:
                    axes.set_title(title, loc="left", fontsize=10)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=75))


def main() -> None:
    """Print the table, and draw the figure with `--picture`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", nargs="?", default="last")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    run = find(arguments.outputs, arguments.run)
    recognizer = load_run(run)
    test = dataset.load("mnist", cache=arguments.outputs / "cache").test
    count = min(arguments.images, len(test))
    digits, labels = test.inputs[:count].reshape(count, 28, 28), test.labels[:count]
    print(f"run {run.id}, {count:,} test digits, error in %; {environment.processor()}")
    print(f"{'':26}{'without':>9}{'with':>9}{'cost':>9}{'refused':>9}")
    clean, rows, shown = None, [], []
    for name, distort in DISTORTIONS.items():
        random = np.random.default_rng(arguments.seed)
        drawn = [distort(digit, random) for digit in digits]
        naive = recognizer.probabilities(np.stack([shrunk(each) for each in drawn]))
        answers = recognizer.read(list(drawn))
        without = float((naive.argmax(axis=1) != labels).mean())
        wrong = [answer.digit != label for answer, label in zip(answers, labels, strict=True)]
        clean = without if clean is None else clean
        refused = sum(answer.digit is None for answer in answers)
        with_it = float(np.mean(wrong))
        print(
            f"{name:26}{without:9.2%}{with_it:9.2%}{100 * (with_it - clean):+9.2f}{refused:9}",
            flush=True,
        )
        rows.append((name, without, with_it))
        shown.append([(each, preprocess(each).image) for each in drawn[:5]])
    if arguments.picture:
        draw(arguments.picture, rows, shown)


if __name__ == "__main__":
    main()
