"""`python -m harness import-images`: a folder of pictures per class becomes four IDX files.

The result is what `dataset=idx dataset.dir=FOLDER` trains on. Pictures go through the recognizer's
preprocessing, so that training and prediction see the same.
"""

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from harness.commands.options import TEST_SHARE, refuse
from harness.data import own_data
from harness.data.own_data import MAX_CLASSES, Examples
from harness.recognizer import picture, preprocess

SUFFIXES = (".png", ".jpg", ".jpeg")


@click.command("import-images")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@TEST_SHARE
@click.option("--as-is", is_flag=True, help="No preprocessing: all of one size, bright on dark.")
def import_images(folder: Path, out: Path, test: float, as_is: bool) -> None:
    """Make four IDX files of FOLDER/<class>/*.png (or JPEG), for dataset=idx."""
    try:
        examples = read_folder(folder, as_is=as_is)
        lines = own_data.write(examples, out, test_share=test)
    except ValueError as error:
        refuse(error)
    for line in examples.skipped:
        click.echo(f"skipped: {line}", err=True)
    click.echo("\n".join(lines))


def read_folder(folder: Path, *, as_is: bool = False) -> Examples:
    """The pictures of `folder/<class>/*.png` (or JPEG), preprocessed to 28x28.

    as_is: use the pictures unchanged, bright on dark and all of one size. Raises `ValueError`.
    """
    names = _classes(folder)
    images, labels, skipped = [], [], []
    for label, name in enumerate(names):
        for path in sorted((folder / name).iterdir()):
            if path.suffix.lower() not in SUFFIXES:
                continue
            try:
                images.append(_read(path, as_is=as_is))
                labels.append(label)
            except ValueError as error:
                skipped.append(f"{path}: {error}")
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise ValueError(f"{folder}: expected pictures of one size, found {sorted(shapes)[:5]}")
    missing = [name for label, name in enumerate(names) if label not in set(labels)]
    if missing:
        raise ValueError(f"{folder}: no usable picture of class {', '.join(missing[:10])}")
    return Examples(np.stack(images), np.array(labels, np.uint8), names, skipped)


def _classes(folder: Path) -> list[str]:
    """The names of the class folders, numbers in numeric order."""
    names = (
        sorted(each.name for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
    )
    if not 2 <= len(names) <= MAX_CLASSES:
        raise ValueError(
            f"{folder}: expected a folder with 2 to {MAX_CLASSES} folders of pictures, one for "
            f"each class, found {len(names)}"
        )
    if all(name.isdecimal() for name in names):
        names.sort(key=int)
    return names


def _read(path: Path, *, as_is: bool) -> NDArray[np.uint8]:
    gray = picture.read(path)
    if as_is:
        return gray
    seen = preprocess.find(gray)
    if seen.image is None:
        raise ValueError(seen.problem)
    return seen.image
