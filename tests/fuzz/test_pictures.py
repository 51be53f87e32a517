"""Random damage to pictures of every format: gray values, or a `ValueError` of one line.

A trial draws a picture, up to four mutations and whether to correct the checksums of a PNG from its
number. Neither decoding nor preprocessing may raise anything else, take long, or give more than it
should. CI runs TRIALS; more by

    HARNESS_FUZZ=60000 python -m pytest tests/fuzz/test_pictures.py
"""

import io
import os
import random
import struct
import time
import zlib
from functools import cache

import numpy as np
import pytest
from PIL import Image

from harness.recognizer import picture
from harness.recognizer.preprocess import preprocess

TRIALS = 4000
LIMIT_S = 5.0  # on a busy machine; most take less than 1 ms
VALUES = (0, 1, 2, 127, 128, 254, 255)
NUMBERS = (0, 1, 5000, 32767, 65535, 65536, 1 << 20, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
TOKENS = (
    *(b"\xff\xd8", b"\xff\xd9", b"\xff\xda", b"\xff\xc0", b"\xff\xc2", b"\xff\xc4", b"\xff\xe1"),
    *(b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"acTL", b"fdAT", b"zTXt", b"IEND"),
    *(b"GIF89a", b"\x21\xf9\x04", b"\x21\xfe", b"\x2c", b"BM", b"RIFF", b"VP8X", b"VP8L", b"ANMF"),
    *(b"II*\0", b"MM\0*", b"Exif\0\0", b"P2 ", b"P5 ", b"#", b"\n", b" 9 9 255\n"),
)


@cache
def corpus() -> list[bytes]:
    """Valid pictures, a kilobyte or less each, of every format and most of its variants."""
    drawing = np.full((24, 18), 240, np.uint8)
    drawing[4:20, 7:11] = np.arange(16, dtype=np.uint8)[:, None] * 4
    gray = Image.fromarray(drawing)
    clear = Image.merge("RGBA", [gray, gray, gray, Image.fromarray(255 - drawing)])
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010E: "text", 0x0131: "program", 0x011A: 72.0})
    palette = gray.convert("P")
    wide = Image.fromarray(drawing.astype(np.uint16) * 257)
    kinds: list[tuple[Image.Image, str, dict[str, object]]] = [
        (gray, "PNG", {}), (gray.convert("RGB"), "PNG", {"exif": exif}), (clear, "PNG", {}),
        (clear.convert("LA"), "PNG", {}), (palette, "PNG", {"transparency": 3}), (wide, "PNG", {}),
        (gray.convert("1"), "PNG", {}), (gray, "PNG", {"save_all": True, "append_images": [gray]}),
        (gray, "JPEG", {}), (gray.convert("RGB"), "JPEG", {"exif": exif, "progressive": True}),
        (gray.convert("CMYK"), "JPEG", {"dpi": (72, 72)}), (gray, "JPEG", {"exif": exif}),
        (gray.convert("RGB"), "MPO", {"save_all": True, "append_images": [gray.convert("RGB")]}),
        (gray, "GIF", {}), (palette, "GIF", {"transparency": 3, "comment": b"text"}),
        (gray, "GIF", {"save_all": True, "append_images": [gray.rotate(9)]}),
        (gray, "BMP", {}), (clear, "BMP", {}), (gray.convert("1"), "BMP", {}),
        (gray, "WEBP", {}), (clear, "WEBP", {"lossless": True, "exif": exif}),
        (clear, "WEBP", {"save_all": True, "append_images": [clear.rotate(9)]}),
        (gray, "TIFF", {"exif": exif}), (wide, "TIFF", {"compression": "tiff_lzw"}),
        (gray.convert("F"), "TIFF", {"compression": "tiff_adobe_deflate"}),
        (gray.convert("RGB"), "TIFF", {"compression": "jpeg"}),
        (gray.convert("1"), "TIFF", {"compression": "group4"}), (gray.convert("I"), "TIFF", {}),
        (gray, "PPM", {}), (gray.convert("RGB"), "PPM", {}), (gray.convert("1"), "PPM", {}),
    ]  # fmt: skip
    pictures = [b"P2 3 2 # text\n255\n0 9 255\n 7 8 9\n", b"P1 3 2\n010 1 0 1\n"]
    for image, kind, options in kinds:
        content = io.BytesIO()
        image.save(content, kind, **options)
        pictures.append(content.getvalue())
    return pictures


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content after one to four mutations."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(content) + 1)
        until = min(len(content), at + chance.choice((1, 1, 2, 4, 16, 200)))
        match chance.randrange(9):
            case 0:
                new = bytes(byte ^ (1 << chance.randrange(8)) for byte in content[at : at + 1])
                content = content[:at] + new + content[at + 1 :]
            case 1:
                content = content[:at] + bytes([chance.choice(VALUES)]) + content[at + 1 :]
            case 2 | 3:
                form = chance.choice(("<H", ">H", "<I", ">I"))
                number = chance.choice(NUMBERS) & (0xFFFF if "H" in form else 0xFFFFFFFF)
                new = struct.pack(form, number)
                content = content[:at] + new + content[at + len(new) :]
            case 4:
                content = content[:at] + content[until:]
            case 5:
                content = content[:until] + content[at:until] * chance.choice((1, 2, 50))
                content += content[until:]
            case 6:
                content = content[:at] + chance.choice(TOKENS) + content[at:]
            case 7:
                content = content[:at] + chance.randbytes(until - at) + content[until:]
            case 8:
                other = chance.choice(corpus())
                content = content[:at] + other[chance.randrange(len(other)) :]
    return content[: 1 << 16]


def with_checksums(content: bytes) -> bytes:
    """A PNG with the right checksum in every chunk, so that damage reaches the decoder."""
    fixed, position = content[:8], 8
    while position + 12 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        end = min(position + 8 + length, len(content))
        fixed += content[position:end] + struct.pack(">I", zlib.crc32(content[position + 4 : end]))
        position = end + 4
    return fixed


def trial(number: int) -> str:
    """Decode and preprocess one damaged picture; returns "" or the message of its error."""
    chance = random.Random(number)
    content = mutated(chance.choice(corpus()), chance)
    if content.startswith(b"\x89PNG") and chance.random() < 0.7:
        content = with_checksums(content)
    try:
        gray = picture.decode(content)
        assert gray.ndim == 2
        assert gray.dtype == np.uint8
        assert 0 < max(gray.shape) < 2 * picture.LARGE
        preprocess(gray)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.filterwarnings("ignore")  # Pillow's; the commands do not show them
def test_damaged_pictures_are_decoded_or_one_line() -> None:
    decoded = 0
    for number in range(int(os.environ.get("HARNESS_FUZZ", TRIALS))):
        begin = time.perf_counter()
        try:
            message = trial(number)
        except Exception as error:
            raise AssertionError(f"trial {number}") from error
        assert time.perf_counter() - begin < LIMIT_S, f"trial {number}"
        assert "\n" not in message, f"trial {number}"
        decoded += not message
    assert 0.1 < decoded / (number + 1) < 0.9  # both outcomes are tried


@pytest.mark.filterwarnings("ignore")
def test_the_undamaged_pictures_are_decoded() -> None:
    assert all(picture.decode(content).size for content in corpus())
