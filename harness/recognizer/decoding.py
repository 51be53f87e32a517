"""Decode pictures in a separate process, with limits on time and memory.

A malicious file can keep its decoder busy for minutes, or crash it. Python cannot interrupt a
decoder, which is C code, but a process can be killed. `python -m harness.recognizer.decoding` is
that process: it reads pictures from standard input and writes their pixels to standard output. It
ends with the process that started it.

The system enforces the limits on processor time and memory: Windows has neither, macOS has no
memory limit. The limit on elapsed time holds everywhere.
"""

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np

from harness.recognizer import picture
from harness.recognizer.picture import Pixels
from harness.runfolder import interpreter

LIMIT_S = 5  # of processor time for one picture; the largest take about 1 s
ELAPSED_S = 60  # for one picture, on a machine that is busy or was suspended
LIMIT_BYTES = 1 << 30  # of address space; `picture.decode` says what a picture takes
REQUEST = struct.Struct(">?I")  # whether in color, and the bytes of the picture, which follow
KILLED = -9  # the exit status after SIGKILL
# True, rows, columns, 1 or 3 values of each pixel, and the values; or False, 0, a length, 0.
ANSWER = struct.Struct(">?IIB")


class Decoder:
    """A process that decodes pictures one after another; only one thread may use it at a time.

    It is started again after a picture that ended it. limit_s: seconds of processor time for one
    picture; elapsed_s: seconds until the process is ended in any case.
    """

    def __init__(self, limit_s: float = LIMIT_S, elapsed_s: float = ELAPSED_S) -> None:
        self._limit_s = limit_s
        self._elapsed_s = elapsed_s
        self._closed = False
        self._process = _start(limit_s)

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decode(self, content: bytes, *, color: bool = False) -> Pixels:
        """Decode a picture as `picture.decode` does, within the limits.

        Raises `ValueError` if the picture is bad, and `OSError` if the machine could not decode it:
        the same picture can succeed later.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        begin = time.monotonic()
        timer = threading.Timer(self._elapsed_s, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            self._process.stdin.write(REQUEST.pack(color, len(content)) + content)
            self._process.stdin.flush()
            return _receive(self._process.stdout)
        except (EOFError, OSError):
            status = self._end()
        finally:
            timer.cancel()
        if self._closed:
            raise ValueError("the decoder was closed")
        self._process = _start(self._limit_s)
        if time.monotonic() - begin >= self._elapsed_s:
            raise OSError(f"no answer of the decoder within {self._elapsed_s} s; try again")
        if status == KILLED:
            raise OSError("the decoder was killed, perhaps for lack of memory; try again")
        if status == -getattr(signal, "SIGPROF", 0):
            raise ValueError(
                f"decoding takes longer than {self._limit_s} s; save the picture again"
            )
        raise ValueError(f"the decoder crashed (exit status {status}); save the picture again")

    def read(self, path: Path, *, color: bool = False) -> Pixels:
        """Read a picture file as `picture.read` does, within the limits. Raises as `decode`."""
        return self.decode(picture.read_bytes(path), color=color)

    def close(self) -> None:
        """End the process, also while another thread waits for its answer."""
        self._closed = True
        self._end()

    def _end(self) -> int:
        """Kill the process if it still runs; returns its exit status."""
        self._process.kill()
        status = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # closing flushes what a dead process did not read
                pipe.close()
        return status


def _start(limit_s: float) -> subprocess.Popen[bytes]:
    """Start the process, in a session of its own: Ctrl-C in a terminal does not reach it."""
    return subprocess.Popen(
        [*interpreter.running("harness.recognizer.decoding"), str(limit_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
    )


def _receive(stream: IO[bytes]) -> Pixels:
    """The picture of an answer. Raises `ValueError` as the answer says, `EOFError` without one."""
    decoded, rows, columns, depth = ANSWER.unpack(_exactly(stream, ANSWER.size))
    if not decoded:
        raise ValueError(_exactly(stream, columns).decode())
    values = np.frombuffer(_exactly(stream, rows * columns * depth), np.uint8)
    return values.reshape((rows, columns) if depth == 1 else (rows, columns, depth))


def _exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise EOFError
    return content


def _limit_memory() -> None:
    """Limit the memory of this process, where the system can."""
    with suppress(ImportError, AttributeError, ValueError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = LIMIT_BYTES if hard == resource.RLIM_INFINITY else min(LIMIT_BYTES, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _limit_time(seconds: float) -> None:
    """Let SIGPROF end this process after more processor time, where the system can; 0: never."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def main(limit_s: float) -> None:
    """Answer requests until standard input ends."""
    _limit_memory()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while header := requests.read(REQUEST.size):
        color, length = REQUEST.unpack(header)
        content = _exactly(requests, length)
        _limit_time(limit_s)
        try:
            pixels = picture.decode(content, color=color)
            depth = 3 if color else 1
            answer = ANSWER.pack(True, *pixels.shape[:2], depth) + pixels.tobytes()
        except ValueError as error:
            text = str(error).encode()
            answer = ANSWER.pack(False, 0, len(text), 0) + text
        _limit_time(0)
        answers.write(answer)
        answers.flush()


if __name__ == "__main__":
    main(float(sys.argv[1]))
