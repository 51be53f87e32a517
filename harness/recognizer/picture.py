"""Read PNG and JPEG pictures of any size and color mode as gray values, in bounded memory.

The header is checked before any pixel is decoded, so that a small file that declares a huge picture
is rejected at once. Every error is a `ValueError` with a message of one line.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG")
MAX_BYTES = 20 << 20
MAX_PIXELS = 32_000_000  # decoded 4 bytes each: 128 MB at most
LARGE = 1024  # pixels; larger pictures are averaged down as they are read

# Pillow's own limit is higher than MAX_PIXELS and only warns.
Image.MAX_IMAGE_PIXELS = None
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, OverflowError)


def read(path: Path) -> NDArray[np.uint8]:
    """Read a picture file as gray values (rows, columns), uint8. Raises `ValueError`."""
    try:
        if not path.is_file():
            what = "a folder" if path.is_dir() else "no such file"
            raise ValueError(f"expected a PNG or JPEG file, found {what}")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(f"expected at most {MAX_BYTES:,} bytes, found {size:,}")
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from None
    return decode(content)


def decode(content: bytes) -> NDArray[np.uint8]:
    """Decode a picture as gray values (rows, columns), uint8. Raises `ValueError`."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise _TooLargeError(
                    f"expected at most {MAX_PIXELS:,} pixels, found {width:,} x {height:,}; "
                    "scale the picture down"
                )
            image.draft("L", (LARGE, LARGE))  # a JPEG can be decoded at a fraction of its size
            image.load()
            return np.asarray(ImageOps.exif_transpose(_gray(image)))
    except _TooLargeError:
        raise
    except UnidentifiedImageError:
        if content.startswith((b"\x89PNG", b"\xff\xd8\xff")):
            raise ValueError("the picture is damaged or cut off (in its header)") from None
        raise ValueError(
            f"expected a PNG or JPEG picture, found {_summary(content)} (the content decides, not "
            "the name)"
        ) from None
    except DAMAGED as error:
        raise ValueError(f"the picture is damaged or cut off ({error})") from None


class _TooLargeError(ValueError):
    """The header declares more than MAX_PIXELS."""


def _gray(image: Image.Image) -> Image.Image:
    """The picture as 8-bit gray on opaque paper, averaged down, its EXIF data kept."""
    factor = max(1, max(image.size) // LARGE)
    if image.mode.startswith(("I", "F")):  # 16 bits or more per pixel: keep the highest 8
        values = np.asarray(image).astype(np.float32)
        if image.mode != "F":
            values /= 256 if values.max() > 255 else 1
        gray = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    elif image.has_transparency_data:
        gray = _opaque(image.convert("LA"))
    else:
        gray = image.convert("L")
    exif = image.getexif()
    gray = gray.reduce(factor) if factor > 1 else gray
    gray.info["exif"] = exif.tobytes()
    return gray


def _opaque(image: Image.Image) -> Image.Image:
    """A picture with alpha on white paper, or on black if the drawing is light."""
    values, alpha = image.split()
    drawn = np.asarray(values)[np.asarray(alpha) > 127]
    paper = Image.new("L", image.size, 0 if drawn.size and drawn.mean() > 127 else 255)
    paper.paste(values, mask=alpha)
    return paper


def _summary(content: bytes) -> str:
    """The size and the first bytes of a file, for a message."""
    return (
        f"{len(content):,} bytes that begin with {content[:8].hex(' ')}" if content else "nothing"
    )
