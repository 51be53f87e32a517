"""`python -m harness serve`: the page to draw digits on, on loopback."""

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
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True)
def serve(outputs: Path, run: str | None, uri: str | None, host: str, port: int) -> None:
    """Open a page to draw digits on, and its JSON API."""
    try:
        trained = loading.choose(outputs, run, uri)
        source = loading.describe_source(trained)
        click.echo(f"draw at http://{host}:{port}   ({source}; Ctrl-C ends it)")
        check_port(host, port)
        library = Library(outputs, trained, uri)
        with threadpool_limits(limits=1):  # single images: a second thread costs more than it gains
            server.serve(server.app(library, {host, *LOOPBACK}), host, port)
    except (ValueError, OSError, StoreError) as error:
        refuse(error)
    except KeyboardInterrupt:
        pass  # Ctrl-C before the server listens; afterwards it returns
    click.echo("ended")


def check_port(host: str, port: int) -> None:
    """Raise `ValueError` when another program listens on the port."""
    with socket.socket() as probe:
        if probe.connect_ex((host, port)) == 0:
            raise ValueError(f"--port {port}: something listens there already; choose another port")
