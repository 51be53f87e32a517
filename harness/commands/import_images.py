"""`python -m harness import-images`: convert one folder of pictures per class to four IDX files.

`dataset=idx dataset.dir=FOLDER` trains on the result. The pictures are preprocessed as the
recognizer does it, so that training and prediction use the same images.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from harness.commands.options import TEST_SHARE, refuse
from harness.data import own_data
from harness.data.own_data import MAX_CLASSES, Examples
from harness.recognizer.decoding import Decoder
from harness.recognizer.picture import SOME, Gray
from harness.recognizer.preprocess import preprocess


@click.command("import-images")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@TEST_SHARE
@click.option("--as-is", is_flag=True, help="Do not preprocess (bright on dark, one size).")
def import_images(folder: Path, out: Path, test: float, as_is: bool) -> None:
    """Convert FOLDER/<class>/ with pictures to four IDX files in OUT, for dataset=idx."""
    try:
        own_data.check_target(out, test)
        examples = read_folder(folder, as_is=as_is)
        for line in examples.skipped:
            click.echo(f"not used: {line}", err=True)
        lines = own_data.write(examples, out, test_share=test)
    except ValueError as error:
        refuse(error)
    click.echo("\n".join([*lines[:1], *examples.notes, *lines[1:]]))


def read_folder(folder: Path, *, as_is: bool = False) -> Examples:
    """Read the pictures below each `folder/<class>/`, preprocessed to 28x28.

    as_is: use the pictures unchanged; they must be bright on dark and all of one size. Hidden files
    and folders are not read; all that is not used is listed in `skipped`. Raises `ValueError` for
    bad folders, `OSError` when the machine did not let a picture be decoded.
    """
    names, skipped = _classes(folder)
    images, labels = [], []
    with Decoder() as decoder:
        for label, name in enumerate(names):
            for path, problem in _files(folder / name):
                if problem:
                    skipped.append(f"{path}: {problem}")
                    continue
                try:
                    images.append(_read(path, decoder, as_is=as_is))
                    labels.append(label)
                except ValueError as error:
                    skipped.append(f"{path}: {error}")
                except OSError as error:  # of the machine, not of the picture
                    raise OSError(f"{path}: {error}") from None
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise ValueError(f"{folder}: expected pictures of one size, found {sorted(shapes)[:5]}")
    missing = [name for label, name in enumerate(names) if label not in set(labels)]
    if missing:
        why = next((line for line in skipped if line.startswith(str(folder / missing[0]))), "")
        raise ValueError(
            f"{folder}: no usable picture of class {', '.join(missing[:10])}; expected {SOME} files"
            + (f" ({why})" if why else "")
        )
    note = f"{len(images):,} pictures used"
    if skipped:
        note += f"; {len(skipped):,} lines on standard error say what was not used, and why"
    return Examples(np.stack(images), np.array(labels, np.uint8), names, skipped, [note])


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key by which numbers within names are in numeric order: a2, a10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts]


def _classes(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the class folders in natural order, and what else is there and not used."""
    try:
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise ValueError(f"{folder}: cannot be read: {error.strerror}") from None
    names, skipped = [], []
    for entry in entries:
        if _is_hidden(entry.name):
            skipped.append(f"{entry}: hidden")
        elif entry.is_dir():
            names.append(entry.name)
        else:
            skipped.append(f"{entry}: not in the folder of a class")
    if not 2 <= len(names) <= MAX_CLASSES:
        raise ValueError(
            f"{folder}: expected 2 to {MAX_CLASSES} folders of pictures, one per class, "
            f"found {len(names)}"
        )
    return sorted(names, key=natural), skipped


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """The files below a class folder in natural order, and why one is not read, else empty."""
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: natural(entry.name))
    except OSError as error:
        yield folder, f"cannot be read: {error.strerror}"
        return
    for entry in entries:
        try:
            is_folder, is_link = entry.is_dir(), entry.is_symlink()
        except OSError as error:
            yield entry, f"cannot be read: {error.strerror}"
            continue
        if _is_hidden(entry.name):
            yield entry, "hidden"
        elif is_folder and is_link:
            yield entry, "a link to a folder"
        elif is_folder:
            yield from _files(entry)
        else:
            yield entry, ""


def _is_hidden(name: str) -> bool:
    """Whether a file or folder is of a program, not of the user."""
    return name.startswith(".") or name == "__MACOSX"


def _read(path: Path, decoder: Decoder, *, as_is: bool) -> Gray:
    """A picture as an image (rows, columns). Raises `ValueError`."""
    gray = decoder.read(path)
    if as_is:
        return gray
    preprocessed = preprocess(gray)
    if preprocessed.image is None:
        raise ValueError(preprocessed.problem)
    return preprocessed.image
