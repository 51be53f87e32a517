"""The errors of a tracking store, and the conversion of MLflow's exceptions to them."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from harness.runfolder.target import Target, shown
from harness.tracking import environment, mlflow_private

MISSING = "RESOURCE_DOES_NOT_EXIST"
READ_ONLY = "attempt to write a readonly database"  # SQLite's words
Result = TypeVar("Result")


class StoreError(RuntimeError):
    """The store cannot be used; the message has the reason and what to do.

    code: MLflow's error code, if there is one. is_silent: whether other calls would probably fail
    too, because the store does not answer, or does not answer like MLflow.
    """

    def __init__(self, message: str, code: str = "", *, is_silent: bool = False) -> None:
        super().__init__(message)
        self.code, self.is_silent = code, is_silent


class Hopeless(StoreError):
    """Waiting does not help: the user must do what the message says."""


class RunDeleted(StoreError):
    """Somebody deleted the run in the store; it is not delivered again."""


@contextmanager
def answers(target: Target) -> Iterator[None]:
    """Turn whatever MLflow's client raises into `StoreError`; only its calls belong in the block.

    It converts any exception: the client does not check the types in a server's JSON before it uses
    them, and the libraries for artifacts in the cloud have their own exceptions.
    """
    from mlflow.exceptions import RestException

    logging.getLogger(mlflow_private.LOGGER).setLevel(logging.CRITICAL)
    try:
        yield
    except StoreError:
        raise
    except ImportError as error:  # such as boto3, for artifacts in S3
        raise Hopeless(f"{target}: {first_line(error)}") from error
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise Hopeless(_obstacle(error)) from error
    except Exception as error:
        if target.is_server and (wrong := environment.unsendable(os.environ)):
            raise Hopeless(f"{target}: {wrong}") from error
        if target.database is not None and READ_ONLY in str(error):
            raise Hopeless(
                f"{target.database}: the database and its folder must be writable; ask the owner "
                "for write access, or to run this command"
            ) from error
        code = str(getattr(error, "error_code", ""))
        is_silent = not isinstance(error, RestException)
        raise StoreError(f"{target}: {first_line(error)}", code, is_silent=is_silent) from error


def _obstacle(error: OSError) -> str:
    """One line that says what blocks a file or folder of the store, and what to do."""
    path = Path(error.filename or "")
    there = next((each for each in (path, *path.parents) if each.exists()), path)
    found, expected = ("a folder", "a file") if there.is_dir() else ("a file", "a folder")
    return f"{there}: expected {expected}, found {found}; move it away"


def existing(call: Callable[[], Result], *also: str) -> Result | None:
    """The result of a call of MLflow's client; None if the requested object does not exist.

    also: other error codes with the same meaning.
    """
    from mlflow.exceptions import MlflowException

    try:
        return call()
    except MlflowException as error:
        if error.error_code not in (MISSING, *also):
            raise
        return None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without passwords."""
    return shown((str(error).strip() or type(error).__name__).splitlines()[0])
