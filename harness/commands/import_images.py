"""`python -m harness import-images`: convert one folder of pictures per class to four IDX files.

`dataset=idx dataset.dir=FOLDER` trains on the result. The pictures are preprocessed as the
recognizer does it, so that training and prediction use the same images.
"""

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from harness.commands.options import TEST_SHARE, refuse
from harness.data import own_data
from harness.data.own_data import MAX_CLASSES, Examples
from harness.recognizer import picture
from harness.recognizer.preprocess import preprocess

SUFFIXES = (".png", ".jpg", ".jpeg")


@click.command("import-images")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@TEST_SHARE
@click.option("--as-is", is_flag=True, help="Do not preprocess (bright on dark, one size).")
def import_images(folder: Path, out: Path, test: float, as_is: bool) -> None:
    """Convert FOLDER/<class>/*.png (or JPEG) to four IDX files in OUT, for dataset=idx."""
    try:
        examples = read_folder(folder, as_is=as_is)
        lines = own_data.write(examples, out, test_share=test)
    except ValueError as error:
        refuse(error)
    for line in examples.skipped:
        click.echo(f"skipped: {line}", err=True)
    click.echo("\n".join(lines))


def read_folder(folder: Path, *, as_is: bool = False) -> Examples:
    """Read the pictures in `folder/<class>/*.png` (or JPEG), preprocessed to 28x28.

    as_is: use the pictures unchanged; they must be bright on dark and all of one size. Raises
    `ValueError` for bad folders; a picture that cannot be used is listed in `skipped`.
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
    """The names of the class folders, sorted; numbers in numeric order. Raises `ValueError`."""
    entries = folder.iterdir() if folder.is_dir() else ()
    names = sorted(entry.name for entry in entries if entry.is_dir())
    if not 2 <= len(names) <= MAX_CLASSES:
        raise ValueError(
            f"{folder}: expected 2 to {MAX_CLASSES} folders of pictures, one per class, "
            f"found {len(names)}"
        )
    if all(name.isdecimal() for name in names):
        names.sort(key=int)
    return names


def _read(path: Path, *, as_is: bool) -> NDArray[np.uint8]:
    """A picture as an image (rows, columns). Raises `ValueError`."""
    gray = picture.read(path)
    if as_is:
        return gray
    preprocessed = preprocess(gray)
    if preprocessed.image is None:
        raise ValueError(preprocessed.problem)
    return preprocessed.image
