"""Overrides as a user types them in a shell."""

import re
import shlex


def quoted(key: str, value: str) -> str:
    """How to type an override whose value is this very text, whatever its characters."""
    # In Hydra's quotes, a backslash is one, except before a quote or another of those.
    escaped = re.sub(r'(\\*)("|$)', lambda m: 2 * m[1] + ("\\" + m[2] if m[2] else ""), value)
    return shlex.quote(f'{key}="{escaped}"')
