"""`python -m harness import-images`: convert one folder of pictures per class to a data set.

The recognizer preprocesses pictures in the same way, so training and prediction use the same
images.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click
import numpy as np

from harness.commands.options import TEST_SHARE, refuse
from harness.data import own_data
from harness.data.arrays import checked_names
from harness.data.own_data import MAX_CLASSES, Examples, natural
from harness.recognizer.decoding import Decoder
from harness.recognizer.picture import LARGE, SOME, Pixels
from harness.recognizer.preprocess import preprocess, resized


@click.command("import-images")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@TEST_SHARE
@click.option(
    "--as-is",
    is_flag=True,
    help="Do not preprocess: the pictures are bright on dark, and of one size or with --size.",
)
@click.option("--color", is_flag=True, help="Keep the colors; the pictures are not preprocessed.")
@click.option(
    "--size", metavar="SIDE|ROWSxCOLUMNS", help="The pixels of an image. Default: 28x28, or as is."
)
def import_images(
    folder: Path, out: Path, test: float, as_is: bool, color: bool, size: str | None
) -> None:
    """Convert the pictures in FOLDER/<class>/ to a data set in OUT.

    Gray images become four IDX files, for dataset=idx. Color images become arrays.npz, for
    dataset=arrays.
    """
    try:
        own_data.check_target(out, test)
        shape = None if size is None else parse_size(size)
        examples = read_folder(folder, as_is=as_is, color=color, size=shape)
        for line in examples.skipped:
            click.echo(f"not used: {line}", err=True)
        lines = own_data.write(examples, out, test_share=test)
    except ValueError as error:
        refuse(error)
    click.echo("\n".join([*lines[:1], *examples.notes, *lines[1:]]))


def parse_size(text: str) -> tuple[int, int]:
    """Parse SIDE or ROWSxCOLUMNS into rows and columns. Raises `ValueError`."""
    found = re.fullmatch(r"([0-9]{1,4})(?:x([0-9]{1,4}))?", text)
    rows, columns = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not (1 <= rows <= LARGE and 1 <= columns <= LARGE):
        raise ValueError(
            f"--size {text}: expected a side, or ROWSxCOLUMNS, of 1 to {LARGE} pixels, such as 32 "
            "or 32x24"
        )
    return rows, columns


def read_folder(
    folder: Path,
    *,
    as_is: bool = False,
    color: bool = False,
    size: tuple[int, int] | None = None,
) -> Examples:
    """Read the pictures below each `folder/<class>/`, preprocessed to `size` (28x28 by default).

    as_is: use the pictures unchanged, or resized to `size`; they must be bright on dark, and all
    have one size if `size` is None. color: likewise, in color. Hidden files and folders are not
    read; `skipped` lists everything unused. Raises `ValueError` for bad folders, and `OSError` if
    the machine could not decode a picture.
    """
    read = partial(_read, as_is=as_is, color=color, size=size)
    names, skipped = _classes(folder)
    images, labels = [], []
    with Decoder() as decoder:
        for label, name in enumerate(names):
            for path, problem in _files(folder / name):
                if problem:
                    skipped.append(f"{path}: {problem}")
                    continue
                try:
                    images.append(read(path, decoder))
                    labels.append(label)
                except ValueError as error:
                    skipped.append(f"{path}: {error}")
                except OSError as error:  # the machine's fault, not the picture's
                    raise OSError(f"{path}: {error}") from None
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        found = ", ".join(f"{rows}x{columns}" for rows, columns, *_ in sorted(shapes)[:5])
        raise ValueError(
            f"{folder}: expected pictures of one size, found {found}; --size 32 resizes them"
        )
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
    kind = np.min_scalar_type(len(names) - 1)
    return Examples(np.stack(images), np.array(labels, kind), names, skipped, [note])


def _classes(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the class folders in natural order, and the other entries, which are unused."""
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
    return list(checked_names(sorted(names, key=natural), str(folder))), skipped


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """The files below a class folder in natural order, each with why it is skipped, or ""."""
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
    """Whether a program, not the user, made a file or folder."""
    return name.startswith(".") or name == "__MACOSX"


def _read(
    path: Path, decoder: Decoder, *, as_is: bool, color: bool, size: tuple[int, int] | None
) -> Pixels:
    """A picture as an image (rows, columns) or (rows, columns, 3). Raises `ValueError`."""
    pixels = decoder.read(path, color=color)
    if as_is or color:
        return pixels if size is None else resized(pixels, (*size, *pixels.shape[2:]))
    preprocessed = preprocess(pixels, size or (28, 28))
    if preprocessed.image is None:
        raise ValueError(preprocessed.problem)
    return preprocessed.image
