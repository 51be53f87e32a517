"""The cost of tracking during training, and where the time of a command goes.

    python tests/benchmarks/bench_tracking.py phases [--repeats 3] [OVERRIDE ...]
    python tests/benchmarks/bench_tracking.py phases -m batch=16,64,128 width=256
    python tests/benchmarks/bench_tracking.py trackers [--repeats 5] [OVERRIDE ...]
    python tests/benchmarks/bench_tracking.py jobs [--jobs 40] [--repeats 3] [OVERRIDE ...]

`phases` runs the default network for 10 epochs (or a sweep) and splits the command's time by
journal records, file times, and the time of `--cfg job`. The first row of the table is a fresh
outputs folder (data extracted, database created); the other rows repeat the command in it.
`trackers` measures the seconds from a job's start to its last record with a healthy server, a dead
server and a server that never answers, each as a multiple of the time with tracking=none just
before. The table gives the median and the range.
`jobs` repeats a sweep of short jobs and prints the CPU seconds of each job by phase, in all
processes together, which other programs on the machine hardly change: the command, the fork
server, the jobs without their epochs, their evaluation (of the validation and the test set),
delivery, pictures and the report. A first row is the
same command with one job. Beside it is the training, in CPU seconds as well.
"""

import argparse
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.nn import metrics
from harness.runfolder import journal
from harness.runfolder.environment import processor
from harness.runfolder.target import Target
from harness.tracking.ui import serve
from harness.training.threads import cores
from tests.conftest import run_folders

PHASES = (
    "import, compose", "data, freeze", "job: import", "build", "train", "evaluate", "record",
    "test, artifacts", "plots", "deliver, close",
)  # fmt: skip

JOB_PHASES = ("command", "server", "job", "evaluate", "delivery", "pictures", "report")
# Put into every process of a measured command. A job's process ends with `os._exit`.
MEASURE = """
import os, resource, sys, time

time.perf_counter = time.process_time  # the journal has CPU seconds of an epoch
role = "command" if "harness.run" in sys.orig_argv else None  # else a job, once it is forked
spent, waited = dict.fromkeys(("pictures", "report", "evaluate"), 0.0), {}

def used(who):
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime

def note():
    spent[role] = used(resource.RUSAGE_SELF) - sum(spent.values())
    spent.update(waited)
    with open(os.environ["HARNESS_MEASURED"], "a") as file:
        file.write("".join(f"{name} {value}\\n" for name, value in spent.items()))

def timed(function, phase, clock=time.thread_time):
    def call(*given, **named):
        begin = clock()
        try:
            return function(*given, **named)
        finally:
            spent[phase] += clock() - begin
    return call

def end(process):
    begin = used(resource.RUSAGE_CHILDREN)
    end_delivery(process)
    waited["delivery"] = used(resource.RUSAGE_CHILDREN) - begin

def become(name):
    global role
    role = name
    from harness.training.trainer import Trainer
    Trainer._evaluate = timed(Trainer._evaluate, "evaluate", time.process_time)

def finish(status):
    if role is not None:
        note()
    leave(status)

leave, os._exit = os._exit, finish
if "harness.job" in sys.orig_argv:
    os.register_at_fork(after_in_child=lambda: become("job"))
if role == "command":
    from harness.run import execute
    from harness.runfolder import optional
    optional._load = timed(optional._load, "pictures")
    for name, phase in (("plot_run", "pictures"), ("_compare", "report")):
        setattr(execute, name, timed(getattr(execute, name), phase))
    from harness.tracking.process import DeliveryProcess
    end_delivery, DeliveryProcess._end = DeliveryProcess._end, end
"""


def command(folder: Path, *arguments: str) -> tuple[float, float]:
    """Run the harness. Returns when it started and ended, in Unix seconds."""
    begin = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "harness.run", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr)
    return begin, time.time()


def phases(cwd: Path, arguments: list[str]) -> tuple[dict[str, float], float]:
    """Seconds of one command, by phase and in total."""
    begin, end = command(cwd, "--cfg", "job")
    spent = dict.fromkeys(PHASES, 0.0) | {"import, compose": end - begin}
    before = set(run_folders(cwd / "outputs"))
    begin, end = command(cwd, *arguments, "checkpoint.keep=0")
    moment = begin + spent["import, compose"]
    for folder in run_folders(cwd / "outputs"):
        if folder in before:
            continue
        records = journal.read(folder / journal.FILE_NAME)[0]
        # The first run: all runs are frozen before it starts.
        if moment < begin + spent["import, compose"] + 1e-9:
            spent["data, freeze"] = at(records, "create") - moment
            moment = at(records, "create")
        spent["job: import"] += at(records, "start") - moment
        add_epochs(spent, folder, records)
        spent["test, artifacts"] += at(records, "end") - at(records, "epoch")
        moment = at(records, "end")
    spent["plots"] = max(0.0, at(records, "artifact") - moment)
    spent["deliver, close"] = end - moment - spent["plots"]
    return spent, end - begin


def at(records: list[journal.Record], kind: str) -> float:
    """The time of the last record of a kind, in Unix seconds."""
    return max(record["ms"] for record in records if record["kind"] == kind) / 1000


def add_epochs(spent: dict[str, float], folder: Path, records: list[journal.Record]) -> None:
    """Add the time from a job's start to its last epoch to its phases."""
    moment, gaps = at(records, "start"), []
    for record in records:
        if record["kind"] == "epoch":
            name = f"checkpoints/epoch-{record['epoch']:06d}/checkpoint.json"
            saved, now = (folder / name).stat().st_mtime, record["ms"] / 1000
            trained = record["metrics"][metrics.EPOCH_S]
            gaps.append(saved - moment - trained)
            spent["train"] += trained
            spent["record"] += now - saved
            moment = now
    build = max(0.0, gaps[0] - statistics.median(gaps))  # loading compiled code, once
    spent["build"] += build
    spent["evaluate"] += sum(gaps) - build


def show_phases(repeats: int, arguments: list[str]) -> None:
    """Print one row per run of the command."""
    print("seconds".ljust(10) + "".join(f"{name:>17}" for name in (*PHASES, "outside training")))
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeats + 1):
            more = ["fresh=true"] if "-m" in arguments else []
            spent, total = phases(Path(folder), [*arguments, *more])
            row = [*(spent[name] for name in PHASES), total - spent["train"]]
            name = f"again {number}" if number else "fresh"
            print(name.ljust(10) + "".join(f"{value:>17.2f}" for value in row), flush=True)


def training_s(cwd: Path, arguments: list[str]) -> float:
    """Seconds from the start of the job of one command to its last record."""
    before = set(run_folders(cwd / "outputs"))
    command(cwd, *arguments)
    (folder,) = set(run_folders(cwd / "outputs")) - before
    times = {r["kind"]: r["ms"] for r in journal.read(folder / journal.FILE_NAME)[0]}
    return (times["end"] - times["start"]) / 1000


def show_trackers(repeats: int, arguments: list[str]) -> None:
    """Print one row per tracker."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as silent:
        cwd = Path(folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            dead = probe.getsockname()[1]
        with serve(Target.local(cwd / "server"), 5098) as healthy:
            trackers = {
                "healthy": healthy,
                "dead": f"http://127.0.0.1:{dead}",
                "silent": f"http://127.0.0.1:{silent.getsockname()[1]}",  # accepts, never answers
            }
            training_s(cwd, [*arguments, "tracking=none", "epochs=1"])  # data, compiled code
            ratios: dict[str, list[float]] = {name: [] for name in trackers}
            for _ in range(repeats):
                for name, uri in trackers.items():
                    tracking = ["tracking=server", f"tracking.uri={uri}", "tracking.patience=1"]
                    without = training_s(cwd, [*arguments, "tracking=none"])
                    ratios[name].append(training_s(cwd, [*arguments, *tracking]) / without)
    print(
        f"{'tracker':<12}{'median':>10}{'least':>10}{'most':>10}   of the time without, n={repeats}"
    )
    for name, values in ratios.items():
        middle = statistics.median(values)
        print(f"{name:<12}{middle:>10.3f}{min(values):>10.3f}{max(values):>10.3f}")


def cpu_seconds(cwd: Path, arguments: list[str]) -> tuple[dict[str, float], float]:
    """CPU seconds of one command by phase, without its training, and of its training."""
    before = set(run_folders(cwd / "outputs"))
    measured = cwd / "measured.txt"
    measured.unlink(missing_ok=True)
    (cwd / "sitecustomize.py").write_text(MEASURE)
    os.environ["HARNESS_MEASURED"] = str(measured)
    paths, begin = os.environ.get("PYTHONPATH"), _used()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(cwd), paths]))
    command(cwd, *arguments)
    os.environ["PYTHONPATH"] = paths or ""
    total = _used() - begin
    spent = dict.fromkeys(JOB_PHASES, 0.0)
    for line in measured.read_text().splitlines():
        phase, _, value = line.partition(" ")
        spent[phase] += float(value)
    spent["server"] = total - sum(spent.values())  # it is killed
    trained = 0.0
    for folder in set(run_folders(cwd / "outputs")) - before:
        records = journal.read(folder / journal.FILE_NAME)[0]
        epochs = (record["metrics"] for record in records if record["kind"] == "epoch")
        trained += sum(values[metrics.EPOCH_S] for values in epochs)
    spent["job"] -= trained
    return spent, trained


def _used() -> float:
    """CPU seconds of all processes that this one waited for, and that those waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show_jobs(repeats: int, jobs: int, arguments: list[str]) -> None:
    """Print the CPU seconds of a sweep per job by phase."""
    print(
        "CPU s per job".ljust(16) + "".join(f"{name:>10}" for name in (*JOB_PHASES, "sum", "train"))
    )
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        command(cwd, *arguments)  # data, database, compiled code
        for count in (1, jobs):
            sweep = ["-m", *arguments, f"seed=range({count})", "fresh=true"]
            rows = [cpu_seconds(cwd, sweep) for _ in range(repeats)]
            columns = [[spent[phase] / count for spent, _ in rows] for phase in JOB_PHASES]
            columns.append([sum(spent.values()) / count for spent, _ in rows])
            columns.append([trained / count for _, trained in rows])
            middle = "".join(f"{statistics.median(values):>10.3f}" for values in columns)
            print(f"{count} job(s), n={repeats}".ljust(16) + middle, flush=True)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["phases", "trackers", "jobs"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("-m", action="store_true", help="a sweep")
    parser.add_argument("overrides", nargs="*", default=[])
    parsed = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory(prefix="harness-numba-") as folder:
        os.environ.setdefault("NUMBA_CACHE_DIR", folder)
        show(parsed)


def show(parsed: argparse.Namespace) -> None:
    """Print the table that was asked for."""
    print(f"{processor()}, {cores()} cores")
    if parsed.what == "jobs":
        show_jobs(parsed.repeats, parsed.jobs, ["epochs=5", *parsed.overrides])
        return
    arguments = [*(["-m"] if parsed.m else []), "epochs=10", *parsed.overrides]
    (show_phases if parsed.what == "phases" else show_trackers)(parsed.repeats, arguments)


if __name__ == "__main__":
    main()
