"""The environment of a result: machine, cores, packages, and the state of the source."""

import getpass
import os
import platform
import socket
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

from harness.runfolder.optional import attempt
from harness.runfolder.secret_files import looks_secret
from harness.training.threads import cores

SOURCE = Path(__file__).resolve().parents[1]
PACKAGES = ("numpy", "numba", "safetensors", "pydantic", "omegaconf", "hydra-core", "mlflow")
FIRST = ("host", "platform", "processor", "cores", "blas threads")  # lines of environment.txt
GIT_S = 10
# Other git variables, such as those that git sets for a hook, are for another repository.
OURS = ("GIT_CONFIG", "GIT_SSH")
# Make a patch for `git apply`, whatever the user's git configuration.
PLAIN_PATCH = (
    "--no-color", "--no-ext-diff", "--no-textconv", "--binary", "--src-prefix=a/",
    "--dst-prefix=b/", "--no-relative", "--no-renames",
)  # fmt: skip


@dataclass(frozen=True)
class Commit:
    """The commit of the harness's source, and whether tracked files differ from it."""

    sha: str
    dirty: bool


class NoCommit(Exception):
    """The commit of the source is unknown; the message has the reason."""


def in_checkout() -> bool:
    """Whether this source lies in a git checkout, even one that git refuses to read."""
    return (SOURCE.parent / ".git").exists()


def commit() -> Commit:
    """The commit of this source. Raises `NoCommit`."""
    if not in_checkout():
        raise NoCommit("not in a git checkout")
    sha = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return Commit(sha.strip(), bool(changes.strip()))


def uncommitted() -> str:
    """The uncommitted changes as a patch for `git apply`; empty if the commit is unknown.

    Files that look like secrets are left out; the first lines of the patch name them. Bytes that
    are not UTF-8 are escaped with `surrogateescape`.
    """
    try:
        if not commit().dirty:
            return ""
    except NoCommit:  # the command and environment.txt say why
        return ""
    return attempt("uncommitted changes", _patch, "")


def _patch() -> str:
    names = _git("diff", "--name-only", "--no-renames", "-z", "HEAD").split("\0")
    secret = sorted(name for name in names if looks_secret(name))
    left_out = [f":(top,exclude,literal){name}" for name in secret]
    patch = _git("diff", *PLAIN_PATCH, "HEAD", "--", ":(top)", *left_out)
    lines = [f"# {name!r}: left out, because its name looks like a secret\n" for name in secret]
    return "".join(lines) + patch


def ensure_home() -> None:
    """Set `HOME` if the user has no home directory; without one, MLflow cannot be imported.

    It is `/`, as in containers: nothing is written there.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"


def user() -> str:
    """The name of the user, or the user id if the system has no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # as in a container; Python 3.13 raises OSError
        return str(os.getuid())


def processor() -> str:
    """The processor's model name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def distributions(modules: Iterable[str]) -> list[str]:
    """The installed distributions that have these top-level modules: scikit-learn for sklearn."""
    left = [name for name in modules if _version(name) is None]
    found = {name for name in modules if name not in left}
    if left:  # listing the modules of all distributions takes 0.1 s
        owners = metadata.packages_distributions()
        found |= {owner for name in left for owner in owners.get(name, ())}
    return sorted(found - {*PACKAGES})


def describe(
    threads: int, modules: Collection[str] = (), known: Mapping[str, str | None] | None = None
) -> str:
    """Return the text of `environment.txt`: all of the above.

    modules: the top-level modules that the user's code imports; their distributions are listed too.
    known: the result of `unchanging`.
    """
    nothing: list[str] = []
    more = attempt("environment.txt: own packages", lambda: distributions(modules), nothing)
    lines = {**dict.fromkeys(FIRST), **(unchanging() if known is None else known)}
    lines |= {
        name: attempt(f"environment.txt: {name}", partial(_version, name), None) for name in more
    }
    lines |= {"cores": str(cores()), "blas threads": str(threads)}
    return "".join(f"{key}: {value}\n" for key, value in lines.items() if value is not None)


def unchanging() -> dict[str, str | None]:
    """The facts that are the same for all jobs that one process forks."""
    facts: dict[str, Callable[[], str | None]] = {
        "host": socket.gethostname,
        "platform": platform.platform,
        "processor": processor,
        "commit": _commit_text,
        "python": platform.python_version,
        **{name: partial(_version, name) for name in PACKAGES},
    }
    unknown: str | None = "unknown"
    return {key: attempt(f"environment.txt: {key}", fact, unknown) for key, fact in facts.items()}


def _commit_text() -> str:
    try:
        source = commit()
    except NoCommit as error:
        return str(error)
    return source.sha + (" with uncommitted changes" if source.dirty else "")


def _git(*arguments: str) -> str:
    """Run git in this source's repository and return its output. Raises `NoCommit`."""
    environ = {k: v for k, v in os.environ.items() if k.startswith(OURS) or k[:4] != "GIT_"}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(SOURCE.parent), *arguments],
            capture_output=True,
            env=environ,
            timeout=GIT_S,
        )
    except OSError as error:
        raise NoCommit(f"unknown: git cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise NoCommit(f"unknown: git took longer than {GIT_S} s") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        why = lines[0] if lines else f"exit status {done.returncode}"
        raise NoCommit(f"unknown: git says: {why}")
    return done.stdout.decode(errors="surrogateescape")
