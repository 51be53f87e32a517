"""Keep problems with standard output and error from ending the work of our processes.

A reader that exits (`| head -1`), a full disk under a redirection, a closed descriptor (`>&-`) and
a character that the encoding lacks all affect only what is shown. After `protect`, output that
cannot be written is dropped, and characters that cannot be encoded are replaced, by their forms in
`PLAIN` if they have one. This is for text for people: `write_data` writes data, always as UTF-8.

A command imports this module first, so it imports as little as possible.
"""

import codecs
import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from rich.console import Console

PLAIN = {"±": "+-", "–": "-", "…": "...", "’": "'"}
"""What is printed instead of a character that an encoding lacks."""
REPLACE = "harness.plain"  # the name of the handler of such errors


class _Descriptor(io.FileIO):
    """A descriptor for writing; after the first error, everything is dropped.

    error: the first error.
    """

    error: OSError | None = None

    def write(self, content: "ReadableBuffer", /) -> int:
        """Write some of the content; return how many bytes were written or dropped."""
        try:
            written = super().write(content)
            while written is None:  # a non-blocking pipe or terminal that is full at the moment
                select.select([], [self], [])
                written = super().write(content)
        except OSError as error:
            self.error = error
            _discard(self.fileno())
            return memoryview(content).nbytes
        return written


def protect() -> None:
    """Make standard output and error safe to print to, also in processes started later."""
    for number in (0, 1, 2):  # a file opened later would get the number of a closed one
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    codecs.register_error(REPLACE, _replaced)
    sys.stdout = _protected(sys.stdout, 1, errors=REPLACE)
    sys.stderr = _protected(sys.stderr, 2, errors="backslashreplace")


def _protected(stream: TextIO | None, number: int, errors: str) -> TextIO:
    if isinstance(stream, io.TextIOWrapper) and os.name == "nt":
        stream.reconfigure(errors=errors)  # a Windows console needs its own writer
        return stream
    raw = _Descriptor(number, "w", closefd=False)
    encoding = "utf-8" if stream is None else stream.encoding
    # Python writes standard error immediately, also to a pipe.
    at_once = ("line_buffering", "write_through")
    line_buffering = raw.isatty() or any(getattr(stream, each, False) for each in at_once)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=line_buffering)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(character, "?") for character in lacking), error.end


def _discard(number: int) -> None:
    """Redirect a descriptor to the null device, also for processes started later."""
    with suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)


def lost() -> OSError | None:
    """Flush, and return the error after which standard output was dropped.

    None if everything was written or nobody reads it: the reader has exited, or standard output was
    closed from the start.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    error = _error()
    return None if error is None or error.errno == errno.EPIPE else error


def reader_is_gone() -> bool:
    """Whether the reader of standard output has exited, which makes more output useless."""
    error = _error()
    return error is not None and error.errno == errno.EPIPE


def _error() -> OSError | None:
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.error if isinstance(raw, _Descriptor) else None


def can_print(text: str) -> bool:
    """Whether standard output's encoding has every character."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """The text as standard output will show it, for layout: with `PLAIN` forms if needed."""
    if can_print(text):
        return text
    return "".join(PLAIN[each] if each in PLAIN and not can_print(each) else each for each in text)


def write_data(content: bytes) -> None:
    """Write data, not text for people, to standard output: these bytes, whatever its encoding."""
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def console(width: int | None = None) -> "Console":
    """Rich's console on standard output. No text is markup: it can come from users and files.

    width: in columns; None: the terminal's width.
    """
    from rich.console import Console

    return Console(width=width, markup=False, emoji=False)
