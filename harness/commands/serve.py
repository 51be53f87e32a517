"""`python -m harness serve`: a page to draw digits on, on loopback."""

import socket
from pathlib import Path

import click
from threadpoolctl import threadpool_limits

from harness.commands.options import OUTPUTS, RUN, URI, refuse
from harness.recognizer import loading, server
from harness.recognizer.library import Library
from harness.tracking.store import StoreError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command()
@OUTPUTS
@RUN
@URI
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8000, show_default=True, help="The port to listen on.")
def serve(outputs: Path, run: str | None, uri: str | None, host: str, port: int) -> None:
    """Serve a page to draw digits on, and its JSON API."""
    try:
        trained = loading.choose(outputs, run, uri)
        source = loading.describe_source(trained)
        click.echo(f"draw at http://{host}:{port}   ({source}; press Ctrl-C to end)")
        check_port(host, port)
        library = Library(outputs, trained, uri)
        with threadpool_limits(limits=1):  # small batches: a second thread costs more than it gains
            server.run(server.app(library, {host, *LOOPBACK}), host, port)
    except (ValueError, OSError, StoreError) as error:
        refuse(error)
    except KeyboardInterrupt:
        pass  # before the server listens; afterwards, uvicorn handles Ctrl-C and returns
    click.echo("ended")


def check_port(host: str, port: int) -> None:
    """Raise `ValueError` if another program listens on the port."""
    with socket.socket() as probe:
        if probe.connect_ex((host, port)) == 0:
            raise ValueError(f"--port {port}: already in use; choose another port")
