"""`budget`, `max_jobs` and `max_epochs`."""

import math

import pytest

from harness.run.limits import Limits
from harness.runfolder.config import ConfigError


def test_limits_are_read() -> None:
    assert Limits.parse({}) == Limits()
    assert Limits.parse({"until": "decided"}) == Limits(until=True)
    assert Limits().seconds == math.inf
    limits = Limits.parse(
        {"until": "decided", "budget": "1.5h", "max_jobs": "40", "max_epochs": "9"}
    )
    assert limits == Limits(True, "1.5h", 40, 9)
    assert limits.given == ["budget=1.5h", "max_jobs=40", "max_epochs=9"]
    assert Limits.parse({"max_epochs": "9"}).given == ["max_epochs=9"]
    assert limits.seconds == 5400


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"until": ""}, "until=(nothing): expected decided"),
        ({"until": "sure"}, "until=sure: expected decided"),
        ({"budget": ""}, "budget=(nothing): expected a time"),
        ({"until": "decided", "budget": "2"}, "budget=2: expected a time such as 90m or 2h"),
        ({"budget": "0.0h"}, "budget=0.0h: expected a time such as 90m or 2h"),
        ({"until": "decided", "budget": "-1h"}, "budget=-1h: expected a time"),
        ({"until": "decided", "max_jobs": "0"}, "max_jobs=0: expected a whole number above 0"),
        ({"until": "decided", "max_epochs": "1e3"}, "max_epochs=1e3: expected a whole number"),
    ],
)
def test_what_is_no_limit_is_one_line(typed: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Limits.parse(typed)
    assert str(refused.value).startswith(words)
    assert "\n" not in str(refused.value)
