"""Every command and every example of the README works as it is printed.

Trainings are short, and those of many recipes take one seed; all their seeds by

    HARNESS_SEEDS=5 python -m pytest tests/test_readme.py -m service
"""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SHORT = {
    "harness.run": ["epochs=1", "dataset.num_train=500", "dataset.num_val=500"],
    "tests/benchmarks/bench_cache.py": ["--repeats", "1"],
    "tests/benchmarks/bench_epoch.py": ["--epochs", "3", "--only", "adamw", "--threads", "1"],
    "tests/benchmarks/bench_memory.py": ["--images", "1000", "2000", "--examples", "2000"],
    "tests/benchmarks/bench_augmentation.py": ["--pairs", "1", "--images", "256"],
    "tests/benchmarks/bench_tracking.py": ["experiment=smoke", "--repeats", "1"],
}
SEEDS = re.compile(r"(?<=^seed=).*")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.strip() and "pip install" not in line]


def test_the_two_set_up_commands() -> None:
    lines = [line for line in README.splitlines() if line.startswith("python -m pip install")]
    assert lines == [
        "python -m pip install -c constraints.txt -e . && python -m harness.run",
        "python -m pip install -c constraints.txt -e '.[test]' && python -m pytest -n auto",
    ]


def test_the_python_example(tmp_path: Path) -> None:
    (example,) = blocks("python")
    assert len([line for line in example.splitlines() if line and "import" not in line]) <= 10
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example.replace("epochs=10", "epochs=1")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    found = re.fullmatch(r"test error (\d+\.\d+)%\n", done.stdout)
    assert found
    assert float(found[1]) < 10


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
def test_every_command(tmp_path: Path) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    assert len(commands()) >= 8
    for line in commands():
        words = shlex.split(line)
        assert words[0] == "python"
        target = words[2] if words[1] == "-m" else words[1]
        if "experiment=" in line and "HARNESS_SEEDS" not in os.environ:
            words = [SEEDS.sub("1", word) for word in words]
        arguments = [sys.executable, *words[1:], *SHORT.get(target, [])]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        if words[1:4] in (["-m", "harness", "ui"], ["-m", "harness", "serve"]):
            check_server(arguments, tmp_path)
            continue
        done = subprocess.run(
            arguments, cwd=tmp_path, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        is_empty = "no finished run of a recipe" in done.stderr  # nothing is trained in full here
        assert done.stdout or (is_empty and words[-1] == "results"), line


def check_server(arguments: list[str], place: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [*arguments, "--port", str(port)], cwd=place, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert f"http://127.0.0.1:{port}" in process.stdout.readline()
    deadline = time.monotonic() + 60
    while not listens(port) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert "ended" in process.communicate(timeout=30)[0]
    assert not listens(port)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 250
