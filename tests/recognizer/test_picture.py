"""Every valid kind of picture is decoded; every other content is an error of one line."""

import contextlib
import io
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

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
        encoded(Image.fromarray(DRAWING), "GIF"),
        encoded(Image.fromarray(DRAWING), "BMP"),
        encoded(Image.fromarray(DRAWING), "WEBP", lossless=True),
        encoded(Image.fromarray(DRAWING), "TIFF", compression="tiff_lzw"),
        encoded(Image.fromarray(DRAWING.astype(np.float32)), "TIFF"),
        encoded(Image.fromarray(DRAWING.astype(np.float32) / 255), "TIFF"),
        encoded(Image.fromarray(DRAWING), "PPM"),
    ],
)
def test_kinds(content: bytes) -> None:
    assert np.abs(picture.decode(content).astype(int) - DRAWING).max() <= 12


def test_a_light_pen_on_a_transparent_background_is_put_on_black() -> None:
    assert np.array_equal(picture.decode(encoded(transparent(255))), 255 - DRAWING)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[picture.ORIENTATION] = orientation
    content = encoded(Image.fromarray(DRAWING), "JPEG", quality=95, exif=exif)
    with Image.open(io.BytesIO(content)) as photo:
        expected = np.asarray(ImageOps.exif_transpose(photo))
    assert np.array_equal(picture.decode(content), expected)


@pytest.mark.filterwarnings("ignore")  # Pillow's, of the damage
def test_odd_metadata_never_fails_a_picture() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12" + b"\xff" * 30
    content = encoded(Image.fromarray(DRAWING), "JPEG", quality=95, exif=exif)
    assert np.abs(picture.decode(content).astype(int) - DRAWING).max() <= 12
    assert np.abs(picture.decode(odd_exif()).astype(int) - DRAWING).max() <= 12


def odd_exif() -> bytes:
    """The drawing as a JPEG with a number where EXIF wants the name of a program."""
    fields = struct.pack(">HHLL", 0x0131, 5, 1, 26) + struct.pack(">LLL", 0, 7, 2)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + fields
    return encoded(Image.fromarray(DRAWING), "JPEG", quality=95, exif=exif)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.arange(3000 * 2500, dtype=np.uint32).astype(np.uint8).reshape(3000, -1)),
        Image.fromarray(np.arange(3000 * 2500).astype(np.uint16).reshape(3000, -1)),
        transparent(0).resize((2500, 3000)),
        transparent(255).resize((2500, 3000)),
        transparent(40).convert("P").resize((3000, 1025)),
    ],
)
def test_bands_give_the_same_picture_as_a_whole(
    image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    banded = picture.decode(encoded(image))
    monkeypatch.setattr(picture, "BAND", 1 << 40)
    assert np.array_equal(banded, picture.decode(encoded(image)))


def scans(count: int) -> bytes:
    """A progressive JPEG with this many scans."""
    content = encoded(Image.fromarray(DRAWING), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    more = count - len(re.findall(rb"\xff\xda", content))
    return content[:-2] + more * last + content[-2:]


def test_the_scans_of_a_jpeg_are_limited() -> None:
    expected = picture.decode(scans(6))
    assert picture.decode(scans(picture.MAX_SCANS)).shape == expected.shape
    with pytest.raises(ValueError, match="at most 100 scans"):
        picture.decode(scans(picture.MAX_SCANS + 1))
    # Bytes that look like scans in metadata or after the end are none.
    decoy = b"\xff\xe4\x40\0" + b"\xff\xda" * 0x1FFF
    content = scans(6)
    with_decoy = content[:2] + decoy + content[2:] + b"\xff\xe4\x40\0" + b"\xff\xda" * 0x1FFF
    assert np.array_equal(picture.decode(with_decoy), expected)


MEMORY = """
import sys
from pathlib import Path
from harness.recognizer import picture

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

before = peak()
picture.decode(Path(sys.argv[1]).read_bytes())
print((peak() - before) >> 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: /proc")
@pytest.mark.parametrize(
    ("mode", "kind", "options", "most"),
    [
        ("RGBA", "PNG", {"compress_level": 1}, 180),
        ("I;16", "PNG", {"compress_level": 1}, 180),
        ("CMYK", "JPEG", {"progressive": True}, 500),
        ("RGB", "WEBP", {"method": 0}, 500),
    ],
)
def test_the_peak_of_memory(
    mode: str, kind: str, options: dict[str, object], most: int, tmp_path: Path
) -> None:
    size = (8000, 4000) if kind == "WEBP" else (31_250, 1024)  # long ones are reduced least
    (tmp_path / "large").write_bytes(encoded(Image.new(mode, size, 0), kind, **options))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "large"], capture_output=True, text=True
    )
    assert int(done.stdout) < most, done.stderr


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "found nothing"),
        (b"hello, this is text", "expected a PNG, JPEG, GIF"),
        (encoded(Image.fromarray(DRAWING), "ICO"), "expected a PNG, JPEG, GIF"),
        (encoded(Image.fromarray(DRAWING), "GIF")[:9], "damaged or cut off"),
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
