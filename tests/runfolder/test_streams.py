"""Standard output and error that never end the work."""

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.runfolder import streams
from tests.conftest import ROOT, python_path

# Prints a lot, then writes into the file it is given: `lost` and `reader_is_gone`, when done.
SCRIPT = """
import os, sys
from pathlib import Path
from harness.runfolder import streams

streams.protect()
opened = open(sys.argv[1], "wb")  # a file never gets the number of a standard stream
for number in range(20000):
    print("line", number, "Gr\u00f6\u00dfe")
print("an error \u00f6", file=sys.stderr)
os.system("echo of a child")
lost = streams.lost()
opened.write(f"{opened.fileno() > 2} {lost and lost.errno} {streams.reader_is_gone()}".encode())
"""


def shell(tmp_path: Path, redirection: str, **environment: str) -> tuple[str, str, str]:
    """What the script reports, its standard output and error, under a redirection of the shell."""
    report = tmp_path / "report"
    (tmp_path / "script.py").write_text(SCRIPT)
    line = f"'{sys.executable}' script.py '{report}' {redirection}; exit 0"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path,
        env=os.environ | python_path(ROOT) | environment,
        capture_output=True,
        timeout=60,
    )
    out, err = (part.decode(errors="replace") for part in (done.stdout, done.stderr))
    return report.read_text(), out, err


@pytest.mark.parametrize(
    ("redirection", "report"),
    [
        ("", "True None False"),
        ("| head -1", "True None True"),
        ("> /dev/full", "True 28 False"),
        (">&-", "True None False"),
        ("2>&-", "True None False"),
        ("<&- >&- 2>&-", "True None False"),
        ("2> /dev/full", "True None False"),
        ("> /dev/full 2>&1", "True 28 False"),
    ],
)
def test_no_standard_stream_ends_the_work(tmp_path: Path, redirection: str, report: str) -> None:
    found, _, err = shell(tmp_path, redirection)
    assert found == report
    assert "Error" not in err
    assert "Exception" not in err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1:strict", "cp1252"])
def test_what_cannot_be_encoded_is_replaced(tmp_path: Path, encoding: str) -> None:
    found, out, err = shell(tmp_path, "", PYTHONIOENCODING=encoding)
    assert found == "True None False"
    assert out.count("line ") == 20000
    assert "of a child\n" in out
    assert "an error" in err
    if encoding == "ascii":
        assert "Gr??e" in out


def test_characters_with_a_plain_form_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "1 ± 2 – 3 … McNemar’s é"
    for encoding, shown in (
        ("utf-8", text),
        ("cp1252", text),
        ("latin-1", "1 ± 2 - 3 ... McNemar's é"),
        ("ascii", "1 +- 2 - 3 ... McNemar's é"),
    ):
        stream = io.TextIOWrapper(io.BytesIO(), encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        assert streams.printable(text) == shown
        streams.write_data("é".encode())
        assert stream.buffer.getvalue() == "é".encode()  # type: ignore[attr-defined]
    code = f"from harness.runfolder import streams; streams.protect(); print({text!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | python_path(ROOT) | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"1 +- 2 - 3 ... McNemar's ?\n"


def test_a_pipe_that_does_not_block_gets_everything() -> None:
    """As Node.js leaves a terminal behind: a write may find it full for the moment."""
    code = (
        "import os, sys; from harness.runfolder import streams; os.set_blocking(1, False); "
        "streams.protect(); [print('x' * 1000) for _ in range(1000)]; assert not streams.lost()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ | python_path(ROOT)
    )
    with process:
        assert process.stdout is not None
        assert len(process.stdout.read()) == 1001 * 1000
    assert process.returncode == 0


def test_no_text_is_markup(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    from harness.run.fitted_table import show

    texts = ["a [/b] c", "[wip] x", "[bold]y[/bold]", ":smile:", "[link=http://x]z[/link]", "\\[u]"]
    table = Table(title="title [/t]", caption="[i]caption")
    for text in texts:
        table.add_column(f"[h] {text}")
    table.add_row(*texts)
    show(table)
    shown = capsys.readouterr().out
    assert all(text in shown for text in [*texts, "title [/t]", "[i]caption"])


def test_every_console_is_ours_and_every_column_plain() -> None:
    """Rich takes brackets for markup unless told otherwise, each time."""
    for path in (ROOT / "harness").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).rpartition(".")[2]
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if name == "Console":
                assert (path.name, given["markup"], given["emoji"]) == (
                    "streams.py", "False", "False",
                )  # fmt: skip
            elif name == "TextColumn":
                assert node.args[0].value == "epoch" or given["markup"] == "False", path  # type: ignore[attr-defined]
            elif name == "Progress":
                assert "console" in given, f"{path}: without it, Rich makes its own console"
