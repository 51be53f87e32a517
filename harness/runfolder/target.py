"""Where the results of a run go: the address of a tracking store."""

import re
from dataclasses import dataclass
from pathlib import Path

SQLITE = "sqlite:///"
USERINFO = re.compile(r"://(?:([^\s/?#:@]*):)?[^\s/?#]*@")
PASSWORD = re.compile(r"([?&]password=)[^&\s]*")


@dataclass(frozen=True)
class Target:
    """A tracking store. artifacts: the URI of their folder when the store is a local file."""

    uri: str
    artifacts: str | None = None

    @classmethod
    def local(cls, outputs: Path) -> "Target":
        """The SQLite file and the artifacts under `outputs`, both absolute."""
        outputs = outputs.resolve()
        return cls(
            f"{SQLITE}{(outputs / 'mlflow.db').as_posix()}", (outputs / "artifacts").as_uri()
        )

    @classmethod
    def named(cls, uri: str | None, outputs: Path) -> "Target":
        """The store at `uri`; the local one under `outputs` when it is None."""
        return cls(uri) if uri else cls.local(outputs)

    @classmethod
    def of(cls, name: str, uri: str | None, outputs: Path) -> "Target | None":
        """The store of the settings `tracking.name` and `tracking.uri`; None for `tracking=none`.

        The address counts with `tracking=server` only.
        """
        if name == "none":
            return None
        return cls.named(uri if name == "server" else None, outputs)

    @property
    def key(self) -> str:
        """The store's name in `delivered.json`; a local store keeps it when `outputs` moves."""
        return self.uri if self.database is None else "local"

    @property
    def database(self) -> Path | None:
        """The SQLite file of a local store, else None."""
        return Path(self.uri.removeprefix(SQLITE)) if self.uri.startswith(SQLITE) else None


def shown(text: str) -> str:
    """The text as it may be printed: passwords and tokens in its addresses become `***`."""
    text = USERINFO.sub(lambda m: f"://{m[1]}:***@" if m[1] else "://***@", text)
    return PASSWORD.sub(r"\1***", text)
