"""Every valid kind of picture is decoded; every other content is an error of one line."""

import contextlib
import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.recognizer import picture

DRAWING = np.full((40, 30), 255, np.uint8)
DRAWING[5:35, 12:18] = 0


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + crc


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A gray PNG that declares this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def transparent(value: int) -> Image.Image:
    """The drawing with a pen of this gray value on a transparent background."""
    pen = Image.fromarray(255 - DRAWING)
    layers = [Image.new("L", pen.size, value)] * 3
    return Image.merge("RGBA", [*layers, pen])


@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.fromarray(DRAWING)),
        encoded(Image.fromarray(DRAWING).convert("RGB"), "JPEG", quality=95),
        encoded(Image.fromarray(DRAWING).convert("1")),
        encoded(Image.fromarray(DRAWING).convert("P")),
        encoded(Image.fromarray(DRAWING.astype(np.uint16) * 257)),
        encoded(transparent(0)),
    ],
)
def test_kinds(content: bytes) -> None:
    assert np.abs(picture.decode(content).astype(int) - DRAWING).max() <= 12


def test_a_light_pen_on_a_transparent_background_is_put_on_black() -> None:
    assert np.array_equal(picture.decode(encoded(transparent(255))), 255 - DRAWING)


def test_a_turned_photo_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    turned = Image.fromarray(DRAWING).transpose(Image.Transpose.ROTATE_90)
    decoded = picture.decode(encoded(turned, "JPEG", quality=95, exif=exif))
    assert np.abs(decoded.astype(int) - DRAWING).max() <= 12


def test_large_pictures_are_averaged_down() -> None:
    decoded = picture.decode(encoded(Image.fromarray(DRAWING).resize((3000, 4000))))
    assert max(decoded.shape) < 2 * picture.LARGE


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "found nothing"),
        (b"hello, this is text", "expected a PNG or JPEG picture"),
        (encoded(Image.fromarray(DRAWING), "GIF"), "expected a PNG or JPEG picture"),
        (encoded(Image.fromarray(DRAWING))[:70], "damaged or cut off"),
        (encoded(Image.fromarray(DRAWING), "JPEG")[:400], "damaged or cut off"),
        (png(100_000, 100_000), "100,000 x 100,000"),
        (png(2**31 - 1, 2**31 - 1), "pixels"),
        (png(9000, 9000, zlib.compress(bytes(1 << 26))), "9,000 x 9,000"),
        (png(50, 50, b"no zlib"), "damaged or cut off"),
        (png(0, 5), "damaged or cut off"),
    ],
)
def test_bad_content_is_one_line(content: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        picture.decode(content)
    assert "\n" not in str(caught.value)


def test_truncated_and_corrupted_files_are_decoded_or_rejected() -> None:
    random = np.random.default_rng(2)
    for kind in ("PNG", "JPEG"):
        whole = encoded(Image.fromarray(DRAWING), kind)
        for _ in range(150):
            content = bytearray(whole[: random.integers(1, len(whole) + 1)])
            content[random.integers(len(content))] ^= 1 << random.integers(8)
            with contextlib.suppress(ValueError):  # any other exception fails the test
                assert picture.decode(bytes(content)).ndim == 2


def test_paths_that_are_not_pictures(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(picture.MAX_BYTES + 1)
    for path, problem in (
        (tmp_path / "none.png", "no such file"),
        (tmp_path, "a folder"),
        (large, "expected at most"),
    ):
        with pytest.raises(ValueError, match=problem):
            picture.read(path)
