"""Format overrides as a user types them in a shell, and suggest names in error messages."""

import difflib
import json
import math
import re
import shlex
from collections.abc import Iterable
from typing import Any


def in_quotes(value: str) -> str:
    """A text in Hydra's quotes, whatever its characters."""
    # Hydra reads backslashes literally, except those right before a quote.
    escaped = re.sub(r'(\\*)("|$)', lambda m: 2 * m[1] + ("\\" + m[2] if m[2] else ""), value)
    return f'"{escaped}"'


def quoted(key: str, value: str) -> str:
    """How to type an override whose value is exactly this text, whatever its characters."""
    return shlex.quote(f"{key}={in_quotes(value)}")


def spell(value: Any) -> str:
    """A value as a user types it, such as `[512,256]`, `null` or `nan`."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, separators=(",", ":"))


def suggest(word: str, known: Iterable[str], cutoff: float = 0.6, then: str = "") -> str:
    """The hint `; did you mean 'batch'?`, or nothing when no known word is close.

    A known key that ends with the word is close, such as `dataset.num_val` to `num_val`. cutoff:
    the minimum similarity, from 0 to 1. then: text that follows in either case.
    """
    known = list(known)
    near = [each for each in known if each.lower() == word.lower()]
    near = near or [each for each in known if each.endswith((f".{word}", f"/{word}"))]
    near = near or difflib.get_close_matches(word, known, 1, cutoff)
    if not near:
        return then and f"; {then}"
    return f"; did you mean {near[0]!r}?" + (then and f" {then}")
