"""Which names of files look like secrets."""

import pytest

from harness.runfolder.secret_files import looks_secret


@pytest.mark.parametrize(
    "name", [".env", "a/.env.local", "b/server.PEM", "id_rsa", "my_credentials.json", ".ssh/config"]
)
def test_names_of_secrets(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize("name", ["harness/keys.py", "tokens.py", "secret_files.py", "a.py"])
def test_other_names(name: str) -> None:
    assert not looks_secret(name)
