"""The user's own modules: importing them, and the files that they consist of.

Covers: harness/runfolder/syntax.py
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from harness.runfolder import own_code
from harness.runfolder.own_code import OwnCodeError

COUNT = iter(range(1000))
OTHERS = "import json\nfrom pathlib import Path\nx = 1\ndef _hidden(): pass\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty package of a new name in the working directory; its name."""
    name = f"mine{next(COUNT)}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield name
    sys.path[:] = before


def write(package: str, **files: str) -> None:
    for name, text in files.items():
        Path(package, f"{name}.py").write_text(text)


def test_a_module_of_the_working_directory(package: str) -> None:
    write(package, parts="def double(x):\n    return 2 * x\n")
    assert own_code.load(f"{package}.parts:double", "metric")(2) == 4


def test_a_module_of_another_folder(package: str, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / f"conf/{package}_more.py").write_text("value = 3\n")
    with pytest.raises(OwnCodeError, match="there is no module"):
        own_code.load(f"{package}_more:value", "metric")
    with own_code.searching(["conf"]):
        assert own_code.load(f"{package}_more:value", "metric") == 3


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("parts:missing", f"{OTHERS}def x(): pass\nclass Y: pass\n", "has no missing; it has x, Y"),
        ("parts:missing", OTHERS, "has no missing; it has no function or class"),
        ("absent:x", "", "there is no module "),
        ("parts:x y", "", "expected MODULE:NAME"),
        ("parts:", "", "expected MODULE:NAME"),
        ("parts:x", "import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_"),
        ("parts:x", "x = 1 / 0\n", "ZeroDivisionError: division by zero ("),
        ("parts:x", "x = 1 / 0\n", "parts.py, line 1)"),
        ("parts:x", "raise SystemExit(3)\n", "SystemExit: 3"),
        ("parts:x", "def x(:\n", "SyntaxError"),
    ],
)
def test_an_import_that_fails_is_one_line(
    package: str, name: str, text: str, expected: str
) -> None:
    write(package, parts=text)
    with pytest.raises(OwnCodeError) as caught:
        own_code.load(f"{package}.{name}", "optimizer")
    assert str(caught.value).startswith(f"optimizer={package}.{name}: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_another_imports_fails_in_one_line_with_one_place(package: str) -> None:
    write(package, parts="from . import other\n", other="from .third import nothing\n", third="")
    with pytest.raises(OwnCodeError) as caught:
        own_code.load(f"{package}.parts:x", "optimizer")
    place = Path(package, "other.py").resolve()
    assert str(caught.value).endswith(
        f"ImportError: cannot import name 'nothing' from '{package}.third' ({place}, line 1)"
    )
    assert own_code.described(caught.value) == str(caught.value), "not the place once more"


def test_a_module_without_a_name_has_candidates(package: str) -> None:
    write(package, parts=f"{OTHERS}1 / 0\ndef f(): pass\nclass G: pass\n", bad="def x(:\n")
    assert own_code.candidates(f"{package}.parts") == f"{package}.parts:f or {package}.parts:G"
    for name in (package, f"{package}.bad", f"{package}.absent", "adm", "json", "a/b", "..", ""):
        assert own_code.candidates(name) == ""


def test_the_files_of_a_module_are_those_that_it_imports_beside_it(package: str) -> None:
    write(
        package,
        parts="import json\nimport numpy as np\nfrom . import first\n",
        first="def later():\n    from .second import x\n",
        second="import helper\n",
        unused="",
    )
    Path("helper.py").write_text("")
    Path("other.py").write_text("")
    files = own_code.sources([f"{package}.parts:x"])
    names = ["__init__", "first", "parts", "second"]
    assert [each.path for each in files] == ["helper.py", *(f"{package}/{n}.py" for n in names)]
    assert {each.root for each in files} == {str(Path.cwd())}


def test_an_import_from_another_folder_of_the_user_is_followed(
    package: str, tmp_path: Path
) -> None:
    """A module of the working directory imports one of --config-dir, and the other way round."""
    write(package, parts=f"import {package}_there\n", back="x = 1\n")
    there = tmp_path / "folder" / f"{package}_there.py"
    there.parent.mkdir()
    there.write_text(f"from {package}.back import x\n")
    with own_code.searching([there.parent]):
        found = own_code.sources([f"{package}.parts:x"])
        paths = [each.path for each in found]
        assert paths == [*(f"{package}/{x}.py" for x in ("__init__", "back", "parts")), there.name]
        assert found[-1].root == str(there.parent)
        before = own_code.digest(found)
        there.write_text(f"from {package}.back import x as y\n")
        assert own_code.digest(own_code.sources([f"{package}.parts:x"])) != before
    sys.path[:] = [path for path in sys.path if path != str(there.parent)]
    with pytest.raises(OwnCodeError, match="was changed after the run was frozen"):
        own_code.use([asdict(each) for each in found])
    there.write_text(f"from {package}.back import x\n")
    own_code.use([asdict(each) for each in found])  # as a job that is not given the folder
    assert own_code.load(f"{package}_there:x", "metric") == 1


def test_the_digest_changes_with_the_code_only(package: str) -> None:
    write(package, parts="x = 1\n", unused="y = 1\n")
    before = own_code.digest(own_code.sources([f"{package}.parts:x"]))
    write(package, parts="# a comment\nx = 1\n", unused="y = 2\n")
    assert own_code.digest(own_code.sources([f"{package}.parts:x"])) == before
    write(package, parts="x = 2\n")
    assert own_code.digest(own_code.sources([f"{package}.parts:x"])) != before


def test_an_installed_module_is_followed_inside_its_package_only() -> None:
    files = own_code.sources(["click.testing:CliRunner"])
    assert "click/testing.py" in [each.path for each in files]
    assert all(each.path.startswith("click/") for each in files)


def test_a_module_without_source_is_refused() -> None:
    with pytest.raises(OwnCodeError, match="expected a module with a source file"):
        own_code.sources(["math:sqrt"])


def test_a_run_s_modules_are_compared_with_what_was_frozen(package: str, tmp_path: Path) -> None:
    write(package, parts="x = 1\n")
    recorded = [asdict(each) for each in own_code.sources([f"{package}.parts:x"])]
    own_code.use(recorded)
    write(package, parts="x = 2\n")
    with pytest.raises(OwnCodeError, match=r"parts\.py: was changed after the run was frozen"):
        own_code.use(recorded)
    Path(package, "parts.py").unlink()
    with pytest.raises(OwnCodeError, match=f"module, which is not in {tmp_path}; the run keeps"):
        own_code.use(recorded)


def test_a_process_uses_one_source_of_a_module(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python imports a module once, whichever run needs it, from whichever folder."""
    recorded = {}
    for folder, text in (("a", "x = 1\n"), ("b", "x = 2\n"), ("c", "# the same\nx = 1\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{package}_one.py").write_text(text)
        monkeypatch.chdir(tmp_path / folder)
        sys.path[:] = [path for path in sys.path if Path(path).parent != tmp_path]
        recorded[folder] = [asdict(each) for each in own_code.sources([f"{package}_one:x"])]
    sys.path[:] = [path for path in sys.path if Path(path).parent != tmp_path]
    monkeypatch.chdir(tmp_path)
    own_code.use(recorded["a"])
    assert own_code.load(f"{package}_one:x", "metric") == 1
    with pytest.raises(OwnCodeError, match=r"b/.*_one\.py: is not the module of its name that is"):
        own_code.use(recorded["b"])
    own_code.use(recorded["c"])


def test_only_what_is_needed_must_be_as_it_was(
    package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        package, parts="from .shared import x\n", other="from .shared import x\n", shared="x = 1\n"
    )
    names = [f"{package}.parts:x", f"{package}.other:x"]
    recorded = [asdict(each) for each in own_code.sources(names)]
    write(package, other="x = 2\n")
    own_code.use(recorded, names[:1])
    own_code.use(recorded, [])
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1, "once in a process"
    assert told[0].startswith(f"warning: {tmp_path / package / 'other.py'}: was changed after the")
    assert told[0].endswith(": it is not needed here")
    for needed in (names[1:], None):
        with pytest.raises(OwnCodeError, match=r"other\.py: was changed after the run was frozen"):
            own_code.use(recorded, needed)
    write(package, shared="x = 3\n")
    with pytest.raises(OwnCodeError, match=r"shared\.py: was changed"):
        own_code.use(recorded, names[:1])
    Path(package, "other.py").unlink()
    with pytest.raises(OwnCodeError, match=r"other\.py: the run uses this module, which is not in"):
        own_code.use(recorded, names[1:])


def test_a_run_s_modules_are_found_where_they_were(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(package, parts="x = 1\n")
    recorded = [asdict(each) for each in own_code.sources([f"{package}.parts:x"])]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    sys.path[:] = [path for path in sys.path if path != str(tmp_path)]
    own_code.use(recorded)
    assert own_code.load(f"{package}.parts:x", "metric") == 1


def test_the_harness_itself_is_no_own_code(package: str) -> None:
    write(package, parts="from harness.nn.layers import Dense\n")
    Path("harness").symlink_to(Path(own_code.__file__).parents[1])
    files = own_code.sources([f"{package}.parts:Dense"])
    assert [each.path for each in files] == [f"{package}/__init__.py", f"{package}/parts.py"]


def test_a_linked_folder_keeps_its_imports(package: str, tmp_path: Path) -> None:
    write(package, parts="from linked.other import x\n", other="x = 1\n")
    Path("linked").symlink_to(tmp_path / package)
    paths = [each.path for each in own_code.sources(["linked.parts:x"])]
    assert paths == ["linked/__init__.py", "linked/other.py", "linked/parts.py"]


def test_without_own_names_the_search_path_stays(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [path for path in sys.path if path not in ("", str(tmp_path))]
    monkeypatch.setattr(sys, "path", list(before))
    assert own_code.sources([]) == []
    assert sys.path == before


def test_the_libraries_that_own_files_import(package: str, tmp_path: Path) -> None:
    (tmp_path / "lib_user.py").write_text(
        "import os, numpy.linalg\nimport harness.nn\nfrom sklearn import svm\n"
        "import lib_helper\n\ndef fit():\n    import yaml.nodes\n"
    )
    (tmp_path / "lib_helper.py").write_text("import click\n")
    with own_code.searching([tmp_path]):
        files = own_code.sources(["lib_user:fit"])
    assert own_code.libraries(files) == ["click", "numpy", "sklearn", "yaml"]
    assert own_code.libraries([]) == []


@pytest.mark.parametrize("text", ["x" * 5000, "a\nb"])
def test_a_message_is_one_line_of_bounded_length(text: str) -> None:
    found = own_code.described(ValueError(text))
    assert "\n" not in found
    assert len(found) < 1100
    assert own_code.described(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_what_cannot_be_shown_is_said() -> None:
    class Odd(BaseException):
        def __str__(self) -> str:
            raise KeyError

        __repr__ = __str__

    assert own_code.described(Odd()) == "Odd: (its text cannot be shown: KeyError)"
    assert own_code.shown(Odd()) == "(its text cannot be shown: KeyError)"
