"""Decode pictures of any size and color mode as gray values or colors, in bounded memory.

The header is checked before any pixel is decoded, so that a small file that declares a huge picture
is rejected at once. Every decoder error becomes a `ValueError` with a one-line message. A hostile
file can still take a decoder a long time: `harness.recognizer.decoding` runs it in a process with a
time limit.
"""

import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

Gray = NDArray[np.uint8]  # (rows, columns)
Pixels = NDArray[np.uint8]  # (rows, columns) or (rows, columns, 3)

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
SOME = "PNG, JPEG, GIF, BMP, WebP, TIFF or PPM"
MAX_BYTES = 20 << 20
MAX_PIXELS = 32_000_000
MAX_SCANS = 100  # of a JPEG: each scan passes over the whole picture; usual are 1 to 10
LARGE = 1024  # pixels; larger pictures are averaged down as they are read
BAND = 1 << 20  # pixels that are converted at a time
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # from the value of the tag to what turns the picture upright
SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")

JPEG_START, JPEG_SCAN = b"\xff\xd8", 0xDA
# A marker: not a stuffed zero, a restart or a fill byte, which stand between the data of a scan.
JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is higher than MAX_PIXELS and only warns
warnings.filterwarnings("ignore", module=r"PIL\.")  # on odd metadata, which is not used


def read(path: Path, *, color: bool = False) -> Pixels:
    """Read a picture file as `decode` does. Raises `ValueError`."""
    return decode(read_bytes(path), color=color)


def read_bytes(path: Path) -> bytes:
    """The content of a picture file of at most MAX_BYTES. Raises `ValueError`."""
    try:
        if not path.is_file():
            what = "a folder" if path.is_dir() else "no such file"
            raise ValueError(f"expected a picture file, found {what}")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(f"expected at most {MAX_BYTES:,} bytes, found {size:,}")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from None


def decode(content: bytes, *, color: bool = False) -> Pixels:
    """Decode a picture as uint8; of several, the first.

    Gray values (rows, columns), or with `color` red, green and blue, (rows, columns, 3).

    Beside `content`, it takes at most about 500 MB, for a WebP picture or a progressive JPEG of
    MAX_PIXELS; other formats take at most 180 MB. Raises `ValueError`.
    """
    try:
        _check_scans(content)
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise _LimitError(
                    f"expected at most {MAX_PIXELS:,} pixels, found {width:,} x {height:,}; "
                    "scale the picture down"
                )
            mode = "RGB" if color else "L"
            image.draft(mode, (LARGE, LARGE))  # a JPEG can be decoded at a fraction of its size
            image.load()
            return _upright(_pixels(image, mode), image)
    except _LimitError:
        raise
    except UnidentifiedImageError:
        if content.startswith(SIGNATURES):
            raise ValueError("the picture is damaged or cut off (in its header)") from None
        raise ValueError(
            f"expected a {SOME} picture, found {_summary(content)} (the content decides, not "
            "the name)"
        ) from None
    except MemoryError:
        raise ValueError("the picture needs more memory than there is; scale it down") from None
    except Exception as error:  # decoders raise errors of every type
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"the picture is damaged or cut off ({reason[:200]})") from None


class _LimitError(ValueError):
    """The picture declares more pixels or scans than are decoded."""


def _check_scans(content: bytes) -> None:
    """Raise `_LimitError` for a JPEG of more than MAX_SCANS scans."""
    scans, position = 0, len(JPEG_START)
    if not content.startswith(JPEG_START):
        return
    while marker := JPEG_MARKER.search(content, position):
        if marker[1][0] == JPEG_SCAN:
            scans += 1
        if scans > MAX_SCANS:
            raise _LimitError(
                f"expected a JPEG of at most {MAX_SCANS} scans, found more; save the picture again"
            )
        length = int.from_bytes(content[marker.end() : marker.end() + 2], "big")
        position = marker.end() + length


def _pixels(image: Image.Image, mode: str) -> Pixels:
    """The picture in mode L or RGB on opaque paper, averaged down, in bands of bounded memory."""
    factor = max(1, max(image.size) // LARGE)
    if image.mode.startswith(("I", "F")):  # 16 bits or more per pixel: keep the highest 8
        scale = _scale(image.mode, max(map(_maximum, _bands(image, 1))))
        parts = [_highest_bits(band, scale).convert(mode) for band in _bands(image, factor)]
    elif image.has_transparency_data:
        paper = _paper(image)
        parts = [_opaque(band.convert(f"{mode}A"), paper) for band in _bands(image, factor)]
    else:
        parts = [band.convert(mode) for band in _bands(image, factor)]
    reduced = [part.reduce(factor) if factor > 1 else part for part in parts]
    return np.concatenate([np.asarray(part) for part in reduced])


def _bands(image: Image.Image, factor: int) -> Iterator[Image.Image]:
    """The picture in bands of full width, from the top, whose heights are multiples of `factor`."""
    width, height = image.size
    step = factor * max(1, BAND // (width * factor))
    for top in range(0, height, step):
        yield image.crop((0, top, width, min(top + step, height)))


def _maximum(band: Image.Image) -> float:
    return float(np.nan_to_num(np.asarray(band)).max())


def _scale(mode: str, highest: float) -> float:
    """What gray values of mode I or F are divided by, to be from 0 to 255."""
    if mode == "F":
        return 1 / 255 if 0 < highest <= 1 else 1.0  # fractions of white are common in TIFF
    return 256.0 if highest > 255 else 1.0


def _highest_bits(band: Image.Image, scale: float) -> Image.Image:
    """A band of mode I or F, divided by `scale`, as 8-bit gray."""
    values = np.nan_to_num(np.asarray(band).astype(np.float32)) / np.float32(scale)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _paper(image: Image.Image) -> int:
    """White, the paper of a picture with alpha; or black if the drawing is light."""
    total = count = 0
    for band in _bands(image, 1):
        values, alpha = map(np.asarray, band.convert("LA").split())
        drawn = values[alpha > 127]
        total, count = total + int(drawn.sum(dtype=np.int64)), count + drawn.size
    return 0 if count and total / count > 127 else 255


def _opaque(band: Image.Image, paper: int) -> Image.Image:
    mode = band.mode.removesuffix("A")
    opaque = Image.new(mode, band.size, paper if mode == "L" else (paper, paper, paper))
    opaque.paste(band.convert(mode), mask=band.getchannel("A"))
    return opaque


def _upright(pixels: Pixels, image: Image.Image) -> Pixels:
    """The picture turned as the picture's EXIF data says; unturned if that is damaged."""
    try:
        turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # metadata of any content never fails a picture
        turn = None
    return pixels if turn is None else np.asarray(Image.fromarray(pixels).transpose(turn))


def _summary(content: bytes) -> str:
    """The size and the first bytes of a file, for a message."""
    return (
        f"{len(content):,} bytes that begin with {content[:8].hex(' ')}" if content else "nothing"
    )
