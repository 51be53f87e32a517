"""The environment of a result: machine, cores, packages, and the state of the source."""

import os
import platform
import socket
import subprocess
from dataclasses import dataclass
from fnmatch import fnmatchcase as fnmatch
from importlib import metadata
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
PACKAGES = ("numpy", "numba", "safetensors", "pydantic", "omegaconf", "hydra-core", "mlflow")
# Names of files and folders that hold keys and passwords, in lower case.
SECRETS = (
    *(".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".pgpass", ".npmrc", ".pypirc"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "*.asc"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".ssh", ".aws", ".gnupg", ".kube"),
    *("*credential*", "*secret*", "*password*", "*passwd*", "*.token", "token.*", ".htpasswd"),
    *("service-account*.json", "service_account*.json", ".git-credentials", ".dockercfg"),
)


@dataclass(frozen=True)
class Commit:
    """The commit of the harness's source, and whether tracked files differ from it."""

    sha: str
    dirty: bool


def commit() -> Commit | None:
    """The commit of this source; None outside a git checkout."""
    if not (SOURCE.parent / ".git").exists():
        return None
    sha = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return None if sha is None or changes is None else Commit(sha.strip(), bool(changes.strip()))


def uncommitted() -> str:
    """The uncommitted changes as a patch for `git apply`; empty outside git.

    Files that look like secrets are left out; the first lines of the patch name them.
    """
    if not (SOURCE.parent / ".git").exists():
        return ""
    names = (_git("diff", "--name-only", "--no-renames", "-z", "HEAD") or "").split("\0")
    secret = sorted(name for name in names if looks_secret(name))
    left_out = [f":(top,exclude,literal){name}" for name in secret]
    patch = _git(
        *("diff", "--no-color", "--no-ext-diff", "--no-renames", "--binary", "HEAD"),
        *("--", ":(top)", *left_out),
    )
    lines = [f"# {name}: left out, because its name looks like a secret\n" for name in secret]
    return "".join(lines) + (patch or "")


def looks_secret(path: str) -> bool:
    """Whether the name of a file, or of a folder that it is in, is one of those for secrets."""
    parts = path.lower().split("/")
    return any(fnmatch(part, pattern) for part in parts for pattern in SECRETS)


def cores() -> int:
    """Cores this process may use: HARNESS_CORES if a launcher set it, else by CPU affinity."""
    allotted = os.environ.get("HARNESS_CORES")
    if allotted:
        return max(1, int(allotted))
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The processor's model name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """The versions of Python and of the installed packages that a run uses."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def describe(threads: int) -> str:
    """Everything above as the text of `environment.txt`."""
    source = commit()
    lines = {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": str(cores()),
        "blas threads": str(threads),
        "commit": "not in a git checkout"
        if source is None
        else source.sha + (" with uncommitted changes" if source.dirty else ""),
        **versions(),
    }
    return "".join(f"{key}: {value}\n" for key, value in lines.items())


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(SOURCE.parent), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
