"""A server of MLflow in a fork of a process that has imported it, which takes seconds of CPU.

The test of a team starts the command `mlflow server` itself: it serves the same application.
"""

import os
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

# What a server imports, but for the application, which reads the environment when it is imported.
PRELOADED = ["mlflow.server.handlers", "mlflow.store.tracking.sqlalchemy_store", "uvicorn"]
LOG = "server.log"


def start(folder: Path, database: str, port: int) -> BaseProcess:
    """Serve a database on loopback; the log, and `mlartifacts`, are in the folder."""
    context = get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, __name__])
    process = context.Process(target=_serve, args=(str(folder), database, port), daemon=True)
    process.start()
    return process


def _serve(folder: str, database: str, port: int) -> None:
    from harness.runfolder.target import Target
    from harness.tracking import mlflow_private

    os.chdir(folder)
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    target = Target(database, "mlflow-artifacts:/")  # clients send files to the server
    mlflow_private.run_server(target, "127.0.0.1", port)
