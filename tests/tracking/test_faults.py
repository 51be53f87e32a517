"""A tracking server that dies, hangs or loses answers: training never waits, nothing is lost."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from harness.runfolder import delivered, journal
from harness.runfolder.journal import Journal
from harness.runfolder.run import Run
from harness.runfolder.target import Target
from harness.tracking.delivery import Delivery
from harness.tracking.store import Store
from harness.tracking.sync import prove
from tests import mlflow_server
from tests.conftest import (
    RUN,
    Command,
    command_in,
    free_port,
    only_folder,
    run_folders,
    small,
    start,
    wait_for,
)
from tests.tracking.conftest import make_run

pytestmark = [pytest.mark.fault, pytest.mark.filterwarnings("ignore")]


class PostgreSQL:
    """A real PostgreSQL on loopback, in a temporary folder, as an unprivileged user."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="harness-postgres-"))
        self.user = None
        if os.geteuid() == 0:  # it refuses to run as root
            self.user = "postgres"
            shutil.chown(self.folder, self.user)
        self._port = free_port()
        self._run("initdb", "-D", "data", "-U", "mlflow", "-A", "trust", "--no-sync")
        self.up()
        self.uri = f"postgresql+psycopg2://mlflow@127.0.0.1:{self._port}/postgres"

    def up(self) -> None:
        self._run("pg_ctl", "-D", "data", "-l", "log", "-w", "start",
                  "-o", f"-p {self._port} -h 127.0.0.1 -k {self.folder}")  # fmt: skip

    def down(self) -> None:
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")

    def stop(self) -> None:
        self.down()
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str) -> None:
        path = shutil.which(program) or sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
        command = [path if isinstance(path, str) else str(path[-1]), *arguments]
        subprocess.run(
            command, cwd=self.folder, user=self.user, check=True, stdout=subprocess.DEVNULL
        )


def postgres_is_here() -> bool:
    return bool(shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb")))


class Server:
    """A real server of MLflow on loopback, over its own SQLite file or another database."""

    def __init__(self, folder: Path, database: str | None = None) -> None:
        self.folder = folder
        self.database = database or f"sqlite:///{folder}/server.db"
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: psutil.Process | None = None

    def start(self) -> None:
        started = mlflow_server.start(self.folder, self.database, self.port)
        self.process = psutil.Process(started.pid)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and started.is_alive():
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        log = (self.folder / mlflow_server.LOG).read_text()
        raise AssertionError(f"the server did not start, status {started.exitcode}: {log}")

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait(10)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "server") as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def any_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server over each kind of database."""
    if request.param == "sqlite":
        with running(tmp_path / "server") as server:
            yield server
        return
    if not postgres_is_here():
        pytest.skip("PostgreSQL is missing: apt-get install postgresql")
    database = PostgreSQL()
    try:
        with running(tmp_path / "server", database.uri) as server:
            yield server
    finally:
        database.stop()


@contextmanager
def running(folder: Path, database: str | None = None) -> Iterator[Server]:
    folder.mkdir()
    server = Server(folder, database)
    yield server
    if server.process is not None and server.process.is_running():
        server.signal(signal.SIGCONT)
        server.signal(signal.SIGKILL)


@contextmanager
def listening(handle) -> Iterator[str]:  # type: ignore[no-untyped-def]
    """A TCP server on loopback; `handle(connection)` in a thread per connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=handle, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class Forwarding(BaseHTTPRequestHandler):
    """Hands requests on to the server at the port `upstream`."""

    protocol_version = "HTTP/1.1"
    upstream: int

    def ask(self, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        return answer.status, answer.read()

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def __getattr__(self, name: str) -> object:
        if name.startswith("do_"):
            return self.forward
        raise AttributeError(name)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def served(proxy: type[Forwarding]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def settings(folder: Path, uri: str, *more: str, patience: int = 5) -> tuple[str, ...]:
    """patience: in seconds; enough for a slow machine where everything is to be delivered."""
    server = ("tracking=server", f"tracking.uri={uri}", f"tracking.patience={patience}")
    return small(folder, *server, *more)


def assert_complete(uri: str, cwd: Path, status: str = "FINISHED") -> None:
    folders = list(run_folders(cwd / "outputs"))
    proofs = prove(Target(uri), [Run(folder) for folder in folders])
    assert [proof.differences for proof in proofs] == [()] * len(folders)
    assert all(proof.rows > 0 for proof in proofs)
    store = Store(Target(uri))
    assert len(store.runs([store.experiment("idx")])) == len(folders)
    assert {Run(folder).history().status for folder in folders} == {status}


def train_undelivered(command: Command, folder: Path, uri: str) -> float:
    """Run against a tracker that does not work; returns the seconds from start to last record."""
    begin = time.time()
    done = command(RUN, *settings(folder, uri, "epochs=5"), timeout=100)
    assert done.returncode == 3, done.stderr
    assert "not delivered yet" in done.stderr
    assert "`python -m harness sync` delivers the rest" in done.stderr
    return begin


def test_down_from_the_start_then_sync_twice(
    tmp_path: Path, idx_folder: Path, server: Server
) -> None:
    command = command_in(tmp_path)
    begin = train_undelivered(command, idx_folder, server.uri)
    (folder,) = run_folders(tmp_path / "outputs")
    end = next(r for r in journal.read(folder / journal.FILE_NAME)[0] if r["kind"] == "end")
    assert end["status"] == "FINISHED"
    assert end["ms"] / 1000 - begin < 20, "training does not wait"
    server.start()
    for _ in range(2):
        done = command("harness", "sync")
        assert done.returncode == 0, done.stderr
        assert "1 of 1 runs delivered in full" in done.stdout
    assert_complete(server.uri, tmp_path)


def test_killed_in_training_and_restarted(
    tmp_path: Path, idx_folder: Path, any_server: Server
) -> None:
    server = any_server
    server.start()
    process = start(tmp_path, *settings(idx_folder, server.uri, "epochs=1500", patience=60))
    wait_for(lambda: list(tmp_path.glob("outputs/runs/*/delivered.json")))
    server.signal(signal.SIGKILL)
    run = Run(only_folder(tmp_path))
    assert len(run.history().epochs) < 1500, "it is in training"
    time.sleep(3)
    server.start()
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    assert_complete(server.uri, tmp_path)


def test_stopped_server_then_sync(tmp_path: Path, idx_folder: Path, server: Server) -> None:
    server.start()
    server.signal(signal.SIGSTOP)
    command = command_in(tmp_path)
    train_undelivered(command, idx_folder, server.uri)
    server.signal(signal.SIGCONT)
    assert command("harness", "sync").returncode == 0
    assert_complete(server.uri, tmp_path)


def test_a_server_that_never_answers(tmp_path: Path, idx_folder: Path) -> None:
    held = []
    with listening(held.append) as uri:
        train_undelivered(command_in(tmp_path), idx_folder, uri)
    assert held, "it tried"


def test_every_first_answer_is_lost(tmp_path: Path, idx_folder: Path, any_server: Server) -> None:
    """The request arrives and is carried out, but its answer does not come back."""
    server = any_server
    server.start()
    seen: set[str] = set()

    class Proxy(Forwarding):
        upstream = server.port

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = self.ask(body)
            endpoint = f"{self.command} {re.sub(r'[?].*|/[0-9a-f]{32}.*', '', self.path)}"
            if endpoint not in seen:
                seen.add(endpoint)
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.answer(status, content)

    with served(Proxy) as uri:
        command = command_in(tmp_path)
        done = command(RUN, *settings(idx_folder, uri, "epochs=5", patience=60), timeout=240)
        for _ in range(5):
            if done.returncode == 0:
                break
            done = command("harness", "sync", timeout=240)
    assert done.returncode == 0, done.stderr
    api = "/api/2.0/mlflow"
    assert {
        f"POST {api}/experiments/create", f"POST {api}/runs/create", f"POST {api}/runs/log-batch",
        f"POST {api}/runs/log-inputs", f"POST {api}/runs/update", f"POST {api}/runs/search",
    } <= seen  # fmt: skip
    assert any(endpoint.startswith("PUT /api/2.0/mlflow-artifacts/") for endpoint in seen)
    assert_complete(server.uri, tmp_path)


def test_a_busy_server_and_asynchronous_logging_lose_nothing(
    tmp_path: Path, idx_folder: Path, server: Server
) -> None:
    """MLflow would send in the background, where an answer 503 loses the rows without an error."""
    server.start()
    refusals = iter(range(2))

    class Proxy(Forwarding):
        upstream = server.port

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            is_batch = self.path.endswith("/runs/log-batch")
            if is_batch and next(refusals, None) is not None:
                self.answer(503, b"busy")
                return
            self.answer(*self.ask(body))

    with served(Proxy) as uri:
        done = command_in(tmp_path)(
            RUN,
            *settings(idx_folder, uri, "epochs=5", patience=60),
            MLFLOW_ENABLE_ASYNC_LOGGING="true",
        )
    assert done.returncode == 0, done.stderr
    assert next(refusals, None) is None, "two calls were refused"
    assert_complete(server.uri, tmp_path)


def test_a_server_restarted_with_another_database(tmp_path: Path) -> None:
    """The old number is another experiment there. Each run arrives once, where it belongs."""
    begun, later = (make_run(tmp_path, name, status=None) for name in "ab")
    with running(tmp_path / "server") as server:
        server.start()
        delivery = Delivery(Target(server.uri))
        delivery.follow(Run(begun))
        assert delivery.drain().undelivered == {}
        server.signal(signal.SIGKILL)
        server.database = f"sqlite:///{server.folder}/other.db"
        server.start()
        client = Store(Target(server.uri)).client
        others = client.create_experiment("somebody else's")
        assert others == delivered.read(begun)["experiment_id"]
        for folder in (begun, later):
            with Journal(folder / journal.FILE_NAME) as writer:
                writer.append("end", status="FINISHED", error=None)
            delivery.follow(Run(folder))
        for deliver in (delivery.drain, Delivery(Target(server.uri)).drain):
            assert deliver().undelivered == {}
            proofs = prove(Target(server.uri), [Run(begun), Run(later)])
            assert [proof.differences for proof in proofs] == [(), ()]
        assert client.search_runs([others]) == []
        mine = client.get_experiment_by_name("mnist")
        assert len(client.search_runs([mine.experiment_id])) == 2


def test_a_moved_outputs_folder_is_reported_and_repaired(tmp_path: Path, idx_folder: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    own = ("dataset=idx", f"dataset.dir={idx_folder}", "batch=20", "width=8", "epochs=2")
    assert command_in(before)(RUN, *own).returncode == 0
    before.rename(after)
    command = command_in(after)
    reported = command(RUN, *own, "tracking.patience=5", timeout=200)
    assert reported.returncode == 3
    assert f": {after}/outputs/mlflow.db: its artifacts" in reported.stderr
    assert (
        "was moved or copied; repair it with `python -m harness sync --relocate`" in reported.stderr
    )
    repaired = command("harness", "sync", "--relocate")
    assert repaired.returncode == 0, repaired.stderr
    assert "2 of 2 runs delivered in full" in repaired.stdout
    assert not before.exists()
    store = Store(Target.local(after / "outputs"))
    for run in store.runs([store.experiment("idx")]):
        listed = {a.path for a in store.client.list_artifacts(run.info.run_id)}
        assert {"config.yaml", "weights", "plots", "predictions"} <= listed
