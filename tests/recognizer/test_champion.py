"""The registered network is found by its alias; other stores have none."""

import sqlite3
from contextlib import closing
from pathlib import Path

from harness.recognizer import champion
from harness.runfolder.target import Target


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
