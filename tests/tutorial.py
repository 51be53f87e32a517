"""Run the code of docs/tutorial.md as it is printed, and draw the pictures of the page.

    python tests/tutorial.py [--pictures FOLDER]

Files are written to `outputs` in the working directory. Takes about half a minute on one core.
"""

import argparse
import contextlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs/tutorial.md"
TILES = 10
PARTS = ("training", "validation")
PIXELS = {"cmap": "gray_r", "vmin": -1, "vmax": 1}


def blocks(language: str) -> list[str]:
    """The blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def expected(block: str) -> list[str]:
    """The lines that the page says a block prints."""
    return re.findall(r"^# -> (.*)$", block, re.MULTILINE)


def run(
    names: dict[str, Any], changes: Mapping[str, str] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Run block after block; yields each with the lines that it printed.

    names: what the blocks define is added to it. changes: replaced in the code, each found once.
    """
    code = "\0".join(blocks("python"))
    for old, new in (changes or {}).items():
        assert code.count(old) == 1, old
        code = code.replace(old, new)
    for block in code.split("\0"):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, PAGE, "exec"), names)
        yield block, printed.getvalue().splitlines()


def draw(names: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw the pictures of the page from what its code defined. Returns their paths."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    def figure(height: float, columns: int) -> tuple[Figure, Any]:
        made = Figure(figsize=(9, height), layout="constrained")
        FigureCanvasAgg(made)
        return made, made.subplots(1, columns)

    digits, tiles = figure(1.15, TILES)
    for tile, image, label in zip(tiles, names["x"], names["labels"], strict=False):
        tile.imshow(image.reshape(28, 28), **PIXELS)
        tile.set(title=label, xticks=[], yticks=[])

    curves, panels = figure(3.2, 2)
    values = np.array(names["curves"])  # (epochs, part, loss or error)
    for panel, title, of_parts in zip(panels, ("loss", "error in %"), values.T, strict=True):
        of_parts = (100 if title == "error in %" else 1) * of_parts.T
        panel.plot(1 + np.arange(len(values)), of_parts, marker=".", label=PARTS)
        panel.set(xlabel="epoch", ylabel=title, ylim=(0, None))
        panel.grid(alpha=0.3)
        panel.legend()

    mistakes, tiles = figure(1.35, TILES)
    probabilities, wrong = names["probabilities"], names["wrong"]
    guesses = probabilities.argmax(axis=1)
    surest = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
    for tile, row in zip(tiles, surest, strict=False):
        tile.imshow(names["x_test"][row].reshape(28, 28), **PIXELS)
        share = f"{100 * probabilities[row].max():.1f} %"
        title = f"{names['test_labels'][row]} read as {guesses[row]}\n{share}"
        tile.set_title(title, fontsize=8)
        tile.set(xticks=[], yticks=[])

    paths = []
    for name, made in (("digits", digits), ("curves", curves), ("mistakes", mistakes)):
        paths.append(folder / f"tutorial-{name}.png")
        made.savefig(paths[-1], dpi=110)
    return paths


def main() -> None:
    """Run the page and print what its blocks print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy is not imported yet
    names: dict[str, Any] = {}
    for _, printed in run(names):
        for line in printed:
            print(line, flush=True)
    if arguments.pictures:
        for path in draw(names, arguments.pictures):
            print(path)


if __name__ == "__main__":
    main()
