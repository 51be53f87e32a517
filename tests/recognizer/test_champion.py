"""The registered network is found by its alias; other stores have none."""

import http.server
import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from harness.recognizer import champion, loading
from harness.runfolder.target import Target
from harness.tracking.errors import StoreError
from harness.tracking.reading import Reader
from harness.tracking.store import Store
from tests.tracking.conftest import fresh_store


def test_a_store_without_the_alias_has_no_champion(tmp_path: Path) -> None:
    target = Target.local(tmp_path)
    assert champion.registered(target) is None
    assert champion.registered(target, "mnist") is None
    assert list(tmp_path.iterdir()) == []  # looking does not create the store
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("CREATE TABLE registered_model_aliases (name, alias)")
        connection.execute("INSERT INTO registered_model_aliases VALUES ('mnist', 'other')")
        connection.execute("INSERT INTO registered_model_aliases VALUES ('own', 'champion')")
        connection.commit()
    assert champion.registered(target, "mnist") is None


@pytest.mark.filterwarnings("ignore")
def test_a_store_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    """Here its path is longer than SQLite allows; as with a file of another user."""
    folder = tmp_path.joinpath(*["x" * 100] * 6)
    folder.mkdir(parents=True)
    (folder / "mlflow.db").write_bytes(b"x" * 1000)
    with pytest.raises(StoreError, match=r"mlflow\.db") as caught:
        champion.registered(Target.local(folder))
    assert "\n" not in str(caught.value)


def register_version(store: Store, name: str, dataset: dict[str, object]) -> None:
    """Register a version of a run on this data set as the champion of a model."""
    own = {"run.id": f"{name}-1"}  # else another program made the run
    run = store.client.create_run(store.experiment("own"), tags=own).info.run_id
    store.log_dataset(run, {"name": name, "sha256": "ab" * 32, "source": "nowhere", **dataset})
    store.client.create_registered_model(name)
    tags = {champion.DIGEST: "ab" * 32}
    store.client.create_model_version(name, "file:///nowhere", run_id=run, tags=tags)
    store.client.set_registered_model_alias(name, champion.ALIAS, "1")


@pytest.mark.filterwarnings("ignore")
def test_only_networks_of_pictures_are_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models of tables and regressions beside the only one of pictures."""
    loaded: list[str] = []
    load = lambda client, target, version: loaded.append(version.name)  # noqa: E731
    monkeypatch.setattr(champion, "_load", load)
    fresh_store(tmp_path)
    store = Store(Target.local(tmp_path))
    pictures = {"classes": 3, "image_shape": [8, 8], "dtype": "uint8"}
    register_version(store, "trees", pictures | {"image_shape": [4], "dtype": "float32"})
    register_version(store, "votes", pictures | {"image_shape": [4]})
    champion.registered(store.target)
    assert loaded == []
    register_version(store, "shapes", pictures)
    register_version(store, "ages", pictures | {"classes": 0})
    champion.registered(store.target)
    assert loaded.pop() == "shapes"
    champion.registered(store.target, "trees")
    assert loaded.pop() == "trees", "asked for by its name"
    register_version(store, "letters", {})
    with pytest.raises(
        ValueError, match=r"letters, shapes each have .* name one with --run letter"
    ):
        champion.registered(store.target)


EXPERIMENT = {"experiment_id": "1", "name": "x", "lifecycle_stage": "active"}
VERSION = {"model_version": {"name": "x", "version": "1", "tags": [{"key": champion.DIGEST}]}}
PROFILE = {"dataset_inputs": [{"dataset": {"name": "x", "digest": "d", "profile": "[1]"}}]}
WRONG = [
    None, [], 5, "text", {},
    {"experiments": 5}, {"experiments": [5]}, {"experiments": [{"experiment_id": [1]}]},
    {"experiments": [EXPERIMENT], "runs": {"a": 1}},
    {"experiments": [EXPERIMENT], "runs": [{"data": {"metrics": [{"key": "a", "value": "b"}]}}]},
    {"experiments": [EXPERIMENT], "runs": [{"info": {"run_id": "abc", "status": "FINISHED"},
                                            "data": {}, "inputs": PROFILE}]},
    {"model_version": 5}, {"model_version": {"name": 5}}, VERSION,
    {"registered_models": {"a": 1}}, {"registered_models": [{"aliases": [5]}]},
    {"error_code": ["x"]}, {"error_code": {"a": 1}, "message": [5]},
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_json_of_wrong_types_from_a_server_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = (200, b"")

    class Server(http.server.BaseHTTPRequestHandler):
        def respond(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

        do_GET = do_POST = respond  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    messages = []
    target = Target(f"http://user:secret@127.0.0.1:{server.server_port}")
    for status in (200, 404):
        for content in WRONG:
            answer = (status, json.dumps(content).encode())
            for call in (
                lambda: champion.registered(target, "mnist"),
                lambda: champion.registered(target),
                lambda: Reader(target).finished(),
                lambda: loading.load_stored(Reader(target), "abc"),
            ):
                try:
                    call()
                except (ValueError, StoreError) as error:  # any other exception fails the test
                    messages.append(str(error))
    server.shutdown()
    server.server_close()
    assert len(messages) > len(WRONG)
    assert not [message for message in messages if "\n" in message or "secret" in message]
