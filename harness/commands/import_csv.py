"""`python -m harness import-csv`: convert a CSV file of labels and pixels to four IDX files."""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from harness.commands.options import TEST_SHARE, refuse
from harness.data import own_data
from harness.data.own_data import Examples

LINES = 2000  # per block that is parsed at once


@click.command("import-csv")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@TEST_SHARE
def import_csv(file: Path, out: Path, test: float) -> None:
    """Convert a CSV file (label, then pixels; Kaggle's train.csv) to four IDX files in OUT."""
    try:
        lines = own_data.write(read_csv(file), out, test_share=test)
    except ValueError as error:
        refuse(error)
    click.echo("\n".join(lines))


def read_csv(path: Path) -> Examples:
    """Read a CSV file: one square image per line, its label, then its pixels row by row.

    A header line is skipped. Raises `ValueError` naming the file and the line.
    """
    pixels, labels = [], []
    for first_line, rows in _numbers(path):
        bad = np.flatnonzero((rows.min(axis=1) < 0) | (rows.max(axis=1) > 255))
        if len(bad):
            raise ValueError(
                f"{path}, line {first_line + int(bad[0])}: expected a label and gray values, all "
                f"from 0 to 255, found {rows[bad[0]].min()} to {rows[bad[0]].max()}"
            )
        labels.append(rows[:, 0].astype(np.uint8))
        pixels.append(rows[:, 1:].astype(np.uint8))
    if not labels:
        raise ValueError(f"{path}: expected lines of a label and its pixels, found none")
    width = pixels[0].shape[1]
    side = math.isqrt(width)
    if side * side != width or not width:
        raise ValueError(
            f"{path}: expected a label and the pixels of a square image in each line, such as 785 "
            f"numbers for 28x28, found {width + 1}; Kaggle's test.csv has no labels"
        )
    all_labels = np.concatenate(labels)
    if all_labels.max() < 1:
        raise ValueError(f"{path}: expected labels 0 to at least 1, found only 0")
    images = np.concatenate(pixels).reshape(-1, side, side)
    return Examples(images, all_labels, [str(n) for n in range(int(all_labels.max()) + 1)])


def _numbers(path: Path) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield blocks of lines as numbers (lines, numbers), each with the number of its first line."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            number, width = 1, 0
            while lines := list(islice(file, LINES)):
                start = 1 if number == 1 and not lines[0][:1].strip('"').isdigit() else 0
                if lines[start:]:
                    rows = np.loadtxt(lines[start:], np.int64, delimiter=",", ndmin=2)
                    width = width or rows.shape[1]
                    if rows.shape[1] != width:
                        raise ValueError(f"{rows.shape[1]} numbers in a line instead of {width}")
                    yield number + start, rows
                number += len(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a text file of numbers, found {error}") from None
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}, after line {number}: expected numbers, found {error}") from None
