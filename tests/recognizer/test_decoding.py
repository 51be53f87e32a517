"""Decoding in a process gives the same pictures, and a bad one costs at most its time limit."""

import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.recognizer import picture
from harness.recognizer.decoding import ANSWER, REQUEST, Decoder
from tests.recognizer.test_picture import DRAWING, chunk, encoded, png

PNG = encoded(Image.fromarray(DRAWING))


def slow() -> bytes:
    """A PNG that is decoded for tens of seconds: 20 MB of profiles of 1 MB each, compressed."""
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes((1 << 20) - 1), 9))
    begin = PNG.index(b"IDAT") - 4
    return PNG[:begin] + profile * ((19 << 20) // len(profile)) + PNG[begin:]


def test_the_same_pictures_and_the_same_errors(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(PNG)
    with Decoder() as decoder:
        assert np.array_equal(decoder.read(tmp_path / "x.png"), DRAWING)
        for content in (b"", b"text", PNG[:70], png(100_000, 100_000)):
            with pytest.raises(ValueError, match=r"expected|damaged") as here:
                picture.decode(content)
            with pytest.raises(ValueError, match=r"expected|damaged") as there:
                decoder.decode(content)
            assert str(here.value) == str(there.value)
        with pytest.raises(ValueError, match="no such file"):
            decoder.read(tmp_path / "none.png")


def test_a_slow_or_deadly_picture_costs_only_itself() -> None:
    with Decoder(limit_s=1) as decoder:
        begin = time.monotonic()
        with pytest.raises(ValueError, match="longer than 1 s"):
            decoder.decode(slow())
        assert time.monotonic() - begin < 10
        assert np.array_equal(decoder.decode(PNG), DRAWING)
        os.kill(decoder._process.pid, signal.SIGSEGV)
        with pytest.raises(ValueError, match="crashed"):
            decoder.decode(PNG)
        assert np.array_equal(decoder.decode(PNG), DRAWING)


def test_a_machine_that_stands_still_costs_no_picture() -> None:
    """The process is suspended for longer than the limit of processor time; then, for good."""
    with Decoder(limit_s=0.2, elapsed_s=2) as decoder:
        os.kill(decoder._process.pid, signal.SIGSTOP)
        threading.Timer(0.5, os.kill, (decoder._process.pid, signal.SIGCONT)).start()
        assert np.array_equal(decoder.decode(PNG), DRAWING)
    with Decoder(elapsed_s=0.3) as decoder:
        os.kill(decoder._process.pid, signal.SIGSTOP)
        with pytest.raises(OSError, match=r"within 0\.3 s; try again"):
            decoder.decode(PNG)
        os.kill(decoder._process.pid, signal.SIGKILL)
        with pytest.raises(OSError, match="lack of memory; try again"):
            decoder.decode(PNG)
        assert decoder._process.poll() is None


WINDOWS = """
import signal, sys
sys.modules["resource"] = None
del signal.setitimer, signal.SIGPROF
from harness.recognizer import decoding
decoding.main(5)
"""


def test_without_limits_of_the_system_pictures_are_decoded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WINDOWS],
        input=REQUEST.pack(False, len(PNG)) + PNG,
        capture_output=True,
        timeout=60,
    )
    assert done.stdout == ANSWER.pack(True, *DRAWING.shape, 1) + DRAWING.tobytes(), done.stderr


def test_memory_is_limited() -> None:
    """A TIFF that declares one strip of 4 GB is an error of one line."""
    tags = [(256, 4, 5000), (257, 4, 5000), (258, 3, 8), (259, 3, 8), (262, 3, 1),
            (273, 4, 8), (278, 4, 5000), (279, 4, 0xFFFFFF00)]  # fmt: skip
    entries = b"".join(struct.pack("<HHLL", tag, kind, 1, value) for tag, kind, value in tags)
    content = struct.pack("<2sHLH", b"II", 42, 8, len(tags)) + entries + bytes(4)
    with Decoder() as decoder:
        with pytest.raises(ValueError, match=r"damaged|memory|crashed"):
            decoder.decode(content)
        assert np.array_equal(decoder.decode(PNG), DRAWING)


def test_closing_ends_a_decoding_in_another_thread() -> None:
    decoder, errors = Decoder(limit_s=60), []

    def work() -> None:
        with pytest.raises(ValueError, match="closed") as caught:
            decoder.decode(slow())
        errors.append(caught.value)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.5)
    decoder.close()
    thread.join(timeout=5)
    assert len(errors) == 1
