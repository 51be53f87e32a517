"""Choose installed fonts that have the letters of a chart, and silence missing-glyph warnings."""

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

DEFAULT = "sans-serif"
PLACEHOLDERS = "Last Resort"  # a font that has a box for every letter


@lru_cache(maxsize=64)
def families(text: str) -> tuple[str, ...]:
    """The default font, and installed fonts for the letters it lacks, if any have them."""
    missing = _lacking(findfont(FontProperties(family=[DEFAULT])), set(text))
    chosen = [DEFAULT]
    for entry in sorted(fontManager.ttflist, key=lambda entry: entry.name) if missing else ():
        left = missing
        if entry.style == "normal" and not entry.name.startswith(PLACEHOLDERS):
            left = _lacking(entry.fname, missing)
        if len(left) < len(missing):
            chosen.append(entry.name)
            missing = left
    return tuple(chosen)


def _lacking(path: str, letters: Collection[str]) -> set[str]:
    """The letters that a font file lacks; all of them if it cannot be read."""
    with suppress(OSError, RuntimeError):
        font = get_font(path)
        return {letter for letter in letters if not font.get_char_index(ord(letter))}
    return set(letters)


@contextmanager
def quiet() -> Iterator[None]:
    """Draw a box for each letter that no font has, without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        yield
