"""Load Numba in a job, and choose the folder that keeps compiled kernels."""

import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from harness.nn.compiled import numba_loading
from harness.runfolder import user_cache
from harness.runfolder.keys import source_digest
from harness.training import compiled

COMPILING = "compiling kernels for this version, once: about 10 s"
MODULES = tuple(
    f"harness.nn.compiled.{name}"
    for name in ("epoch", "ink_layer", "losses", "network", "optimizers", "regularization")
)


def load(cache: Path) -> None:
    """Load Numba for a run, and print a line when it compiles. cache: see `code_folder`."""
    numba_loading.load()
    _keep_code(cache)
    numba_loading.when_compiling(lambda: print(COMPILING, flush=True))


def preload() -> None:
    """Load Numba and its cached kernels, for the jobs that this process forks."""
    numba_loading.load()
    _keep_code(None)
    for module in MODULES:
        import_module(module)
    for load in (compiled.load_epoch, compiled.load_steps):
        with suppress(numba_loading.NotCached):
            load()


def _keep_code(cache: Path | None) -> None:
    """Make Numba keep code in NUMBA_CACHE_DIR if it is writable, else in `code_folder`."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    if not given or not _can_write(Path(given)):
        os.environ["NUMBA_CACHE_DIR"] = code_folder(cache)
    sys.modules["numba"].config.reload_config()  # it may have been loaded before


def code_folder(cache: Path | None) -> str:
    """The user's folder for compiled code of this source; one in `cache` if there is none.

    Numba checks only the file of a function, not its imports, so the name has the digest of all.
    Raises `FileNotFoundError` if there is neither.
    """
    name = f"numba-{source_digest()[:12]}"
    folder = user_cache.folder(name)
    if folder is not None:
        return str(folder)
    if cache is None:
        raise FileNotFoundError(name)
    return str(cache.resolve() / name)


def _can_write(folder: Path) -> bool:
    """Whether Numba can use the folder; it refuses to compile if it cannot write there."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)  # as Numba does
    return user_cache.can_write(folder)
