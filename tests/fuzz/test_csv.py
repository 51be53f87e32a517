"""Random damage to CSV files of labeled images: read exactly, or refused in one line.

A trial draws a table, how it is spelled, a few mutations and the options of the import from its
number. What is read must be the numbers that Python's `csv` module and `float` give; everything
else must be a `ValueError` of one line, and neither may take long. CI runs TRIALS; more by

    HARNESS_FUZZ=20000 python -m pytest tests/fuzz/test_csv.py
"""

import csv
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness.data import labeled_csv
from harness.data.own_data import Examples

TRIALS = 3000
LIMIT_S = 5.0  # on a busy machine
TOKENS = (
    *(b",", b",,", b"\n", b"\r", b"\r\n", b'"', b'""', b"'", b";", b"\t", b" ", b"#", b"\n#", b"-"),
    *(b"+", b".", b"e", b"nan", b"inf", b"-inf", b"1e400", b"1e2", b"2.50e1", b"0x10", b"1_0"),
    *(b"\0", b"\xff", b"\xef\xbb\xbf", "\u0663".encode(), "\u2028".encode(), b"\x1c", b"\x0b"),
    *(b"255", b"256", b"-1", b"0.5", b"99999999999999999999", b"label", b"TRUE", b"\n\n", b"\n1,2"),
)
FORMS = ("{}", "{:3d}", "{}.0", "{:e}", '"{}"', " {} ", '"{:3d}"', "+{}", "{:.18e}")


def table(random: random.Random) -> bytes:
    """A small table, spelled in one of many ways."""
    side = random.choice((1, 2, 2, 3))
    rows = [
        [random.randrange(4), *(random.randrange(256) for _ in range(side * side))]
        for _ in range(random.randrange(3, 9))
    ]
    form = random.choice(FORMS)
    lines = [",".join(form.format(value) for value in row) for row in rows]
    if random.random() < 0.3:
        names = [f"pixel{n}" for n in range(side * side)]
        names.insert(random.choice((0, 0, len(names))), random.choice(("label", "Class", "digit")))
        lines.insert(0, ",".join(names))
    for _ in range(random.choice((0, 0, 1, 2))):
        lines.insert(random.randrange(len(lines) + 1), random.choice(("", "# text", "  ", "#1,2")))
    end = random.choice(("\n", "\n", "\r\n", "\r"))
    mark = random.choice(("", "", "\ufeff"))
    return (mark + end.join(lines) + random.choice(("", end))).encode()


def mutated(content: bytes, random: random.Random) -> bytes:
    """The content after one to three mutations."""
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(len(content) + 1)
        until = min(len(content), at + random.choice((1, 1, 2, 5, 30)))
        match random.randrange(7):
            case 0:
                content = content[:at] + random.choice(TOKENS) + content[at:]
            case 1:
                content = content[:at] + random.choice(TOKENS) + content[until:]
            case 2:
                content = content[:at] + content[until:]
            case 3:
                content = content[:at] + content[at:until] * 2 + content[until:]
            case 4:
                content = content[:at] + bytes([random.randrange(256)]) + content[at + 1 :]
            case 5:
                content = content[:at]
            case 6:
                content = content[:at] + random.choice((b"0", b"1", b"7")) + content[at + 1 :]
    return content


def independent(path: Path, *, has_header: bool) -> list[list[float]]:
    """The numbers of the file, by the `csv` module. Raises `ValueError`."""
    text = path.read_bytes().decode("utf-8-sig")
    lines = [
        line.strip(" \t") for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    ]
    lines = [line for line in lines if line and not line.startswith("#")]
    rows = [next(csv.reader([line], skipinitialspace=True)) for line in lines]
    return [[float(cell.strip()) for cell in row] for row in rows[has_header:]]


def check(path: Path, examples: Examples, options: dict[str, Any]) -> None:
    """Compare what was read with the independent reading."""
    has_header = "is a header" in examples.notes[0]
    rows = np.array(independent(path, has_header=has_header))
    cell = int(examples.notes[0].split("in cell ")[1].split(" of ")[0]) - 1
    labels, pixels = rows[:, cell], np.delete(rows, cell, axis=1)
    assert np.array_equal(examples.images.reshape(len(rows), -1), pixels)
    names = np.array([float(examples.classes[label]) for label in examples.labels])
    assert np.array_equal(names, labels)
    if not options.get("renumber"):
        assert np.array_equal(examples.labels, labels)
    if options.get("header") is not None:
        assert has_header is options["header"]


def read(path: Path, options: dict[str, Any]) -> tuple[Examples | None, str]:
    """What was read, or None and the problem."""
    try:
        return labeled_csv.read(path, **options), ""
    except ValueError as error:
        return None, str(error)


def trial(number: int, path: Path) -> bool:
    """One mutated file and one import; returns whether it was read."""
    drawn = random.Random(number)
    content = table(drawn)
    path.write_bytes(mutated(content, drawn) if number % 5 else content)
    options = {
        "label_column": drawn.choice((*(None,) * 9, "first", "last", "2", "label", "é,")),
        "header": drawn.choice((*(None,) * 8, True, False)),
        "renumber": drawn.random() < 0.3,
    }
    started = time.monotonic()
    examples, problem = read(path, options)
    assert time.monotonic() - started < LIMIT_S, f"trial {number}"
    if examples is None:
        assert problem.startswith(str(path)), f"trial {number}: {problem}"
        assert "\n" not in problem, f"trial {number}: {problem}"
        return False
    try:
        check(path, examples, options)
    except (AssertionError, ValueError, csv.Error) as error:
        raise AssertionError(f"trial {number}, {path.read_bytes()!r}, {options}: {error}") from None
    return True


def test_a_damaged_csv_is_read_exactly_or_refused_in_one_line(tmp_path: Path) -> None:
    count = int(os.environ.get("HARNESS_FUZZ", TRIALS))
    accepted = sum(trial(number, tmp_path / "own.csv") for number in range(count))
    print(f"{accepted:,} of {count:,} were read")
    assert 0.2 < accepted / count < 0.8, "both outcomes are tested"
