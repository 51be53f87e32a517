"""A real Slurm on this machine while a test runs: munge, a controller, two nodes."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
MISSING = [name for name in NEEDED if not shutil.which(name)]
INSTALL = "needs a real Slurm: apt-get install munge slurm-wlm"

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=5
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname={host} Port={ports[1]} CPUs=1 RealMemory=8000
NodeName=n2 NodeAddr=127.0.0.1 NodeHostname={host} Port={ports[2]} CPUs=1 RealMemory=8000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def ask(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def slurm() -> Iterator[Path]:
    """The cluster's folder, while SLURM_CONF points every command to it."""
    # Not pytest's folder: the path of a socket may have at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    host = socket.gethostname().split(".")[0]
    user = psutil.Process().username()
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    path = folder / "slurm.conf"
    path.write_text(CONFIGURATION.format(host=host, folder=folder, user=user, ports=free_ports(3)))
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(path)
    try:
        ask(
            "munged", "--force", f"--key-file={folder}/munge.key",
            f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed",
        )  # fmt: skip
        ask("slurmctld", "-c")
        ask("slurmd", "-N", "n1")
        ask("slurmd", "-N", "n2")
        deadline = time.monotonic() + 300
        while ask("sinfo", "--noheader", "--format=%T %D") != "idle 2":
            assert time.monotonic() < deadline, (folder / "slurmctld.log").read_text()
            time.sleep(0.5)
        yield folder
        ask("scancel", "--me")
        time.sleep(1)
    finally:
        for name in ("n1", "n2", "slurmctld", "munged"):
            end(folder / f"{name}.pid")
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop("SLURM_CONF")
        if before is not None:
            os.environ["SLURM_CONF"] = before


def end(pid_file: Path) -> None:
    """End the daemon whose pid is in this file, and its children."""
    if not pid_file.is_file():
        return
    try:
        daemon = psutil.Process(int(pid_file.read_text()))
        family = [*daemon.children(recursive=True), daemon]
    except (psutil.NoSuchProcess, ValueError):
        return
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.terminate()
    for member in psutil.wait_procs(family, timeout=10)[1]:
        member.kill()
