"""When a sweep with `until=decided`, or a search, ends early.

budget=2h  max_jobs=N  max_epochs=N
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.runfolder.config import ConfigError

UNTIL = "decided"
UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LIMITS = ("budget", "max_jobs", "max_epochs")


@dataclass(frozen=True)
class Limits:
    """When to end early. budget: as typed, for this command; the others limit the whole sweep.

    until: whether `until=decided` is given, which ends a sweep when it is decided.
    """

    until: bool = False
    budget: str = ""
    max_jobs: int | None = None
    max_epochs: int | None = None

    @property
    def seconds(self) -> float:
        """The budget in seconds; infinite without one."""
        if not self.budget:
            return float("inf")
        return float(self.budget[:-1]) * UNIT_S[self.budget[-1]]

    @property
    def given(self) -> list[str]:
        """The limits as typed."""
        values = {key: getattr(self, key) for key in LIMITS}
        return [f"{key}={value}" for key, value in values.items() if value not in ("", None)]

    @classmethod
    def parse(cls, typed: Mapping[str, str]) -> "Limits":
        """The limits among the command's own keys. Raises `ConfigError`."""
        until = typed.get("until")
        if until not in (None, UNTIL):
            raise ConfigError(f"until={until or '(nothing)'}: expected {UNTIL}")
        budget = typed.get("budget", "")
        is_time = re.fullmatch(r"\d+(\.\d+)?[smhd]", budget) and float(budget[:-1]) > 0
        if "budget" in typed and not is_time:
            raise ConfigError(f"budget={budget or '(nothing)'}: expected a time such as 90m or 2h")
        return cls(
            until is not None, budget, _count(typed, "max_jobs"), _count(typed, "max_epochs")
        )


def _count(typed: Mapping[str, str], key: str) -> int | None:
    if key not in typed:
        return None
    if not re.fullmatch(r"[1-9]\d*", typed[key]):
        raise ConfigError(f"{key}={typed[key]}: expected a whole number above 0")
    return int(typed[key])
