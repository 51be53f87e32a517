"""A team's server: MLflow over PostgreSQL with basic authentication, and five writers at once.

Each writer delivers one run; more by

    HARNESS_SEEDS=5 python -m pytest tests/tracking/test_team.py -m service
"""

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking.store import Store
from harness.tracking.sync import prove
from tests.conftest import RUN, Command, run_folders, small
from tests.slurm import free_ports

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
pytestmark = [
    pytest.mark.service,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not BINARIES, reason="needs PostgreSQL: apt-get install postgresql"),
]
WRITERS = 5
SEEDS = int(os.environ.get("HARNESS_SEEDS", "1"))  # runs of each


@dataclass(frozen=True)
class Team:
    """The server's address, its database, and the password of all its users."""

    uri: str
    database: str
    password: str


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    """docs/scaling.md's set-up on loopback, in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="team-"))
    database_port, port = free_ports(2)
    password = secrets.token_hex(12)
    binaries = BINARIES[-1].parent
    # PostgreSQL refuses root; Debian's package brings the user.
    user = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
    (folder / "pgpass").write_text(f"127.0.0.1:{database_port}:*:mlflow:{password}\n")
    (folder / "pgpass").chmod(0o600)
    (folder / "password").write_text(password)
    cluster = folder / "postgres"
    cluster.mkdir()
    if user:
        shutil.chown(folder, "postgres")
        shutil.chown(cluster, "postgres")
        shutil.chown(folder / "password", "postgres")

    def run(*command: str) -> None:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=folder,
            env=os.environ | {"PGPASSFILE": str(folder / "pgpass")}, **user,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    run(
        str(binaries / "initdb"), "-D", str(cluster), "-U", "mlflow", "-A", "scram-sha-256",
        f"--pwfile={folder}/password",
    )  # fmt: skip
    options = f"-c listen_addresses=127.0.0.1 -p {database_port} -k {folder}"
    run(str(binaries / "pg_ctl"), "-D", str(cluster), "-o", options, "-l", f"{folder}/log", "-w",
        "start")  # fmt: skip
    server = None
    if user:
        shutil.chown(folder / "pgpass", "root")
    address = f"postgresql://mlflow@127.0.0.1:{database_port}"
    try:
        with _connect(f"{address}/postgres", folder) as connection:
            connection.autocommit = True
            for name in ("mlflow", "mlflow_auth"):
                connection.cursor().execute(f"CREATE DATABASE {name}")
        server = _server(folder, address, port, password)
        yield Team(f"http://127.0.0.1:{port}", f"{address}/mlflow", password)
    finally:
        os.environ.pop("PGPASSFILE", None)
        if server is not None:
            family = [*server.children(recursive=True), server]
            for member in family:
                member.terminate()
            for member in psutil.wait_procs(family, 10)[1]:
                member.kill()
        subprocess.run(
            [binaries / "pg_ctl", "-D", cluster, "-m", "immediate", "-w", "stop"],
            capture_output=True, cwd=folder, **user,
        )  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)


def _connect(address: str, folder: Path):  # type: ignore[no-untyped-def]
    import contextlib

    import psycopg2

    os.environ["PGPASSFILE"] = str(folder / "pgpass")
    return contextlib.closing(psycopg2.connect(address))


def _driven(address: str) -> str:
    """The address with its driver named, as SQLAlchemy wants it."""
    return address.replace("postgresql:", "postgresql+psycopg2:")


def _server(folder: Path, address: str, port: int, password: str) -> psutil.Popen:
    (folder / "auth.ini").write_text(
        "[mlflow]\n"
        "default_permission = EDIT\n"
        f"database_uri = {_driven(address)}/mlflow_auth\n"
        "admin_username = admin\n"
        "auth_cache_ttl_seconds = 60\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = os.environ | {
        "PGPASSFILE": str(folder / "pgpass"),
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (folder / "server.log").open("wb") as log:
        server = psutil.Popen(
            [
                sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth",
                "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
                "--backend-store-uri", f"{_driven(address)}/mlflow",
                "--serve-artifacts", "--artifacts-destination", str(folder / "artifacts"),
            ],
            env=environment, cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    deadline = time.monotonic() + 600
    while True:
        assert server.poll() is None, (folder / "server.log").read_text()[-3000:]
        assert time.monotonic() < deadline, (folder / "server.log").read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
        except OSError:
            time.sleep(0.5)
    for number in range(WRITERS):
        content = json.dumps({"username": f"user{number}", "password": password}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/users/create", content,
            {
                "Content-Type": "application/json",
                "Authorization": "Basic "
                + base64.b64encode(f"admin:{password}".encode()).decode(),
            },
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200
    return server


def settings(folder: Path, team: Team, *more: str) -> tuple[str, ...]:
    return small(folder, "tracking=server", f"tracking.uri={team.uri}", "epochs=20", *more)


def test_five_writers_at_once(tmp_path: Path, idx_folder: Path, team: Team) -> None:
    """Five users on five "machines", each with a folder of its own: every row is there."""
    writers = []
    for number in range(WRITERS):
        folder = tmp_path / f"machine{number}"
        folder.mkdir()
        seeds = "seed=" + ",".join(str(10 * number + seed) for seed in range(1, SEEDS + 1))
        writers.append(
            subprocess.Popen(
                [sys.executable, "-m", RUN, "-m", *settings(idx_folder, team, seeds)],
                cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                env=os.environ
                | {
                    "MLFLOW_TRACKING_USERNAME": f"user{number}",
                    "MLFLOW_TRACKING_PASSWORD": team.password,
                },
            )
        )  # fmt: skip
    outputs = [writer.communicate(timeout=1200)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * WRITERS, outputs
    folders = [f for path in tmp_path.iterdir() for f in run_folders(path / "outputs")]
    assert len(folders) == SEEDS * WRITERS
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        patch.setenv("MLFLOW_TRACKING_PASSWORD", team.password)
        proofs = prove(Target(team.uri), [Run(folder) for folder in folders])
        assert [proof.differences for proof in proofs] == [()] * len(folders)
        store = Store(Target(team.uri))
        runs = store.runs([store.experiment("idx")])
        assert len(runs) == SEEDS * WRITERS
        for run in runs:
            listed = {a.path for a in store.client.list_artifacts(run.info.run_id)}
            assert {"config.yaml", "weights", "plots", "predictions"} <= listed
            assert run.info.artifact_uri.startswith("mlflow-artifacts:"), "through the server"
            assert team.password not in json.dumps(run.to_dictionary())
    assert rows(team) == sum(proof.rows for proof in proofs)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or team.password.encode() not in path.read_bytes(), path
    assert not any(team.password in text for text in outputs)


def rows(team: Team) -> int:
    """Metric rows as PostgreSQL counts them."""
    import contextlib

    import psycopg2

    with contextlib.closing(psycopg2.connect(team.database)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT count(*) FROM metrics")
        return int(cursor.fetchone()[0])


def test_without_credentials_nothing_is_written_and_nothing_lost(
    command: Command, tmp_path: Path, idx_folder: Path, team: Team
) -> None:
    before = rows(team)
    own = settings(idx_folder, team, "tracking.patience=3", "tracking.experiment=late")
    for wrong in ({}, {"MLFLOW_TRACKING_USERNAME": "user1", "MLFLOW_TRACKING_PASSWORD": "guess"}):
        done = command(RUN, *own, timeout=300, **wrong)
        assert done.returncode == 3
        assert "not delivered yet" in done.stderr
        assert "guess" not in done.stderr
    assert rows(team) == before
    right = {"MLFLOW_TRACKING_USERNAME": "user1", "MLFLOW_TRACKING_PASSWORD": team.password}
    done = command("harness", "sync", timeout=300, **right)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 runs delivered in full" in done.stdout
    assert rows(team) > before


def test_an_address_with_a_password_is_refused(
    command: Command, tmp_path: Path, idx_folder: Path
) -> None:
    secret = "http://user1:geheim@127.0.0.1:5000"
    for arguments, environment in (
        (("tracking=server", f"tracking.uri={secret}"), {}),
        (("tracking=server",), {"MLFLOW_TRACKING_URI": secret}),
    ):
        done = command(RUN, *arguments, **environment)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in done.stderr
        assert "geheim" not in done.stderr + done.stdout
        assert list(tmp_path.iterdir()) == []
