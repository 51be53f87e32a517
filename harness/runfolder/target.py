"""Where the results of a run go: the address of a tracking store."""

import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

SQLITE = "sqlite:///"
# For an address with the short prefix, MLflow makes the folder without decoding its name first.
QUOTED_SQLITE = "sqlite+pysqlite:///"
SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
LOCAL = "local"
USERINFO = re.compile(r"(://(?:[^\s/?#:@]+:)?|^[^\s/?#:@]+:)[^\s/?#]*@")
# SQLAlchemy's rule: the password of a database can have slashes.
DATABASE_PASSWORD = re.compile(
    rf"(\b(?:{'|'.join(DATABASES)})(?:\+\w+)?://[^\s:/@]*:)[^\s@]*@", re.IGNORECASE
)
PASSWORD = re.compile(
    r"([?&](?:password|passwd|pwd|sslpassword|odbc_connect)=)[^&\s]*", re.IGNORECASE
)


@dataclass(frozen=True)
class Target:
    """A tracking store. artifacts: the URI of the artifact folder if the store is local."""

    uri: str
    artifacts: str | None = None

    @classmethod
    def local(cls, outputs: Path) -> "Target":
        """The SQLite file and the artifacts under `outputs`, both absolute."""
        outputs = outputs.resolve()
        return cls(sqlite_uri(outputs / "mlflow.db"), (outputs / "artifacts").as_uri())

    @classmethod
    def named(cls, uri: str | None, outputs: Path) -> "Target":
        """The store at `uri`; the one under `outputs` if it is None or `local`."""
        return cls(uri) if uri and uri != LOCAL else cls.local(outputs)

    @classmethod
    def of(cls, name: str, uri: str | None, outputs: Path) -> "Target | None":
        """The store of the settings `tracking.name` and `tracking.uri`; None for `tracking=none`.

        The address is used only with `tracking=server`.
        """
        if name == "none":
            return None
        return cls.named(uri if name == "server" else None, outputs)

    @property
    def key(self) -> str:
        """The store's name in `delivered.json`; a local store keeps it when `outputs` moves."""
        return self.uri if self.artifacts is None else LOCAL

    @property
    def is_server(self) -> bool:
        """Whether it is an HTTP server."""
        return self.uri.partition("://")[0].lower() in SERVERS

    @property
    def database(self) -> Path | None:
        """The SQLite file of a local store, else None."""
        for prefix in (SQLITE, QUOTED_SQLITE):
            if self.uri.startswith(prefix):
                path = self.uri.removeprefix(prefix).partition("?")[0]
                return Path(urllib.parse.unquote(path))
        return None

    @property
    def artifact_root(self) -> str | None:
        """The URI of the artifact folder, beside an SQLite file; None if the server decides."""
        if self.artifacts is None and self.database is not None:
            return (self.database.resolve().parent / "artifacts").as_uri()
        return self.artifacts

    def __str__(self) -> str:
        return shown(self.uri)


def sqlite_uri(database: Path) -> str:
    """The address of an SQLite file, encoded for SQLAlchemy 2.1."""
    path = database.as_posix()
    quoted = path.replace("%", "%25").replace("?", "%3F")
    return f"{SQLITE if quoted == path else QUOTED_SQLITE}{quoted}"


def shown(text: str) -> str:
    """The text made safe to print: passwords and tokens in its addresses become `***`."""
    text = DATABASE_PASSWORD.sub(r"\1***@", text)
    text = USERINFO.sub(r"\1***@", text)
    return PASSWORD.sub(r"\1***", text)


def problem(uri: str, *, is_kept: bool = False) -> str | None:
    """What is wrong with the address of a tracking store, in words; None if it is valid.

    is_kept: whether run folders will contain it; they must not contain a password.
    """
    if is_kept and (secret := _secret(uri)):
        return secret
    expected = (
        "expected http://HOST:PORT, https://HOST, or a database such as sqlite:///FILE or "
        "postgresql://USER@HOST/NAME"
    )
    scheme, separator, rest = uri.partition("://")
    kind = scheme.partition("+")[0].lower()
    if kind == "databricks":
        return None
    if separator and kind in SERVERS:
        return None if _has_host(uri) else f"it has no host, or an invalid port; {expected}"
    if separator and kind in DATABASES:
        is_file = kind == "sqlite"
        return f"it names no database; {expected}" if is_file and len(rest) < 2 else None
    if kind == "file" or uri.startswith((".", "/", "~")):
        return f"MLflow no longer keeps results in folders; {expected}"
    if not separator and re.fullmatch(r"[\w.-]+(:\d+)?(/.*)?", uri):
        return f"the scheme is missing; type http://{uri}"
    return expected


def _secret(uri: str) -> str | None:
    """Why an address must not be kept, in words; None if it has no password or token.

    A user name alone is not a secret in a database's address, but can be one in a server's.
    """
    kind = uri.partition("://")[0].partition("+")[0].lower()
    if kind in DATABASES:
        if not (DATABASE_PASSWORD.search(uri) or PASSWORD.search(uri)):
            return None
        return (
            "expected an address without a password, which would be saved in every run folder; "
            "type postgresql://USER@HOST/NAME and let the driver find the password, as in "
            "~/.pgpass or PGPASSWORD"
        )
    if "@" not in uri:
        return None
    return (
        "expected an address without user and password, which would be saved in every run folder; "
        "type http://HOST:PORT and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    )


def _has_host(uri: str) -> bool:
    try:
        parsed = urllib.parse.urlsplit(uri)
        (parsed.hostname or "").encode("idna")  # raises if it cannot be a host name
        has_port = parsed.port is None or parsed.port > 0
        return bool(parsed.hostname) and has_port and not re.search(r"\s", uri)
    except ValueError:  # the port is not a number, unbalanced brackets, or an empty label
        return False
