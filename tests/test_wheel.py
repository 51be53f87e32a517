"""A wheel built from the tree is complete: configurations, data and console scripts."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.service
def test_the_wheel_works_elsewhere(tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "-o",
            str(tmp_path),
            str(ROOT),
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "harness/conf/config.yaml" in names
    web = ("app.js", "icon.svg", "index.html", "style.css")
    assert {f"harness/recognizer/web/{name}" for name in web} <= set(names)
    assert sum(name.startswith("harness/data/mnist/") for name in names) == 4
    assert not [name for name in names if name.startswith(("tests", "outputs"))]

    # Its own environment, with this one's packages but without this checkout.
    venv.create(tmp_path / "venv", with_pip=True)
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = [scripts / "python", "-m", "pip", "install", "-q", "--no-deps", wheel]
    subprocess.run(pip, check=True)
    found = subprocess.run(
        [scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    Path(found, "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    place = tmp_path / "elsewhere"
    place.mkdir()
    for command, expected in (
        (["harness-run", "experiment=smoke", "tracking=none"], "FINISHED"),
        (["harness", "status"], "FINISHED"),
    ):
        done = subprocess.run(
            [scripts / command[0], *command[1:]], cwd=place, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert expected in done.stdout
    where = subprocess.run(
        [scripts / "python", "-c", "import harness; print(harness.__file__)"],
        cwd=place,
        capture_output=True,
        text=True,
    ).stdout
    assert where.startswith(found)
