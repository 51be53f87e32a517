"""`python -m harness`: its commands, their help, and an unknown one."""

import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest

from harness.__main__ import COMMANDS, main
from tests.conftest import ROOT, bash, command_in

NOT_COMMANDS = {"__init__", "keyboard", "options", "scores"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_the_function_of_its_module(name: str) -> None:
    command = main.get_command(click.Context(main), name)  # type: ignore[attr-defined]
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.help
    function = name.replace("-", "_")
    module = importlib.import_module(f"harness.commands.{function}")
    assert getattr(module, function) is command
    for option in command.params:
        if isinstance(option, click.Option) and not isinstance(command, click.Group):
            assert option.help or option.show_default, f"{name} {option.name}"


def test_every_module_of_the_room_is_a_command() -> None:
    modules = {path.stem for path in (ROOT / "harness/commands").glob("*.py")}
    assert modules - NOT_COMMANDS == {name.replace("-", "_") for name in COMMANDS}
    assert len(set(COMMANDS)) == len(COMMANDS)


def test_help_lists_the_commands_in_their_order() -> None:
    done = command_in(ROOT)("harness", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    listed = done.stdout.partition("Commands:\n")[2].splitlines()
    lines = [line for line in listed if line.startswith("  ") and line[2:3].strip()]
    assert tuple(line.split()[0] for line in lines) == COMMANDS
    assert all(len(line.split()) > 2 for line in lines), "each with a line of help"


@pytest.mark.parametrize("name", ["stat", "options", "__init__", "import_csv"])
def test_an_unknown_command_exits_2(name: str) -> None:
    done = command_in(ROOT)("harness", name)
    assert done.returncode == 2
    assert f"No such command '{name}'" in done.stderr


@pytest.mark.parametrize(
    "words",
    ["results", "compare", "reproduce abc", "predict x.png", "serve --port 0", "ui --port 0"],
)
@pytest.mark.parametrize("is_given", [True, False], ids=["unreachable", "missing"])
def test_a_command_without_its_store_exits_2(tmp_path: Path, words: str, is_given: bool) -> None:
    options = ("--uri", "http://127.0.0.1:1") if is_given else ()
    quick = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = command_in(tmp_path)("harness", *words.split(), *options, **quick)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("redirection", "status", "stderr"),
    [
        ("| head -1", 0, ""),
        (">&-", 0, ""),
        ("> /dev/full", 1, "error: standard output: No space left on device\n"),
    ],
)
@pytest.mark.parametrize("words", ["harness status", "harness.run --cfg job", "harness.run --help"])
def test_output_that_cannot_be_written(
    tmp_path: Path, words: str, redirection: str, status: int, stderr: str
) -> None:
    """Here the output is the work: losing it is a failure, unless nobody wants it."""
    line = f"'{sys.executable}' -m {words} {redirection}; exit ${{PIPESTATUS[0]}}"
    done = bash(tmp_path, line)
    assert done.returncode == status
    assert done.stderr.count("\n") == stderr.count("\n"), done.stderr
    assert "No space left on device" in done.stderr or not stderr


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("")
    done = command_in(tmp_path)("harness", "export", "json", "json")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_version() -> None:
    done = command_in(ROOT)("harness", "--version")
    assert done.returncode == 0
    assert "version" in done.stdout


def test_a_command_imports_only_what_it_needs() -> None:
    code = (
        "import sys\nfrom harness.__main__ import main\n"
        "try:\n    main(['status', '--outputs', 'no/such/folder'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print({'mlflow', 'hydra', 'matplotlib', 'optuna', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr
