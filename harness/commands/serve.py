"""`python -m harness serve`: serve a drawing page on loopback."""

import ipaddress
import socket
from pathlib import Path

import click
from threadpoolctl import threadpool_limits

from harness.commands.options import CONFIG_DIR, OUTPUTS, RUN, URI, refuse
from harness.recognizer import server
from harness.recognizer.choice import choose
from harness.recognizer.guard import Hosts
from harness.recognizer.library import Library
from harness.tracking.errors import StoreError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command()
@OUTPUTS
@CONFIG_DIR
@RUN
@URI
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The port to listen on; 0: any free one.",
)
@click.option(
    "--allow-host", "names", multiple=True, metavar="NAME", help="Another name of this server."
)
def serve(
    outputs: Path, run: str | None, uri: str | None, host: str, port: int, names: tuple[str, ...]
) -> None:
    """Serve a page for drawing digits, or pictures of other classes, and its JSON API."""
    try:
        with server.listen(host, port) as listener:
            trained = choose(outputs, run, uri)
            library = Library(outputs, trained, uri)
            places = addresses(host, listener)
            click.echo(f"draw at {places}   ({trained.source}; press Ctrl-C to end)")
            for remark in trained.remarks:
                click.echo(remark)
            with threadpool_limits(limits=1):  # small batches: a second thread costs more
                server.run(library, listener, accepted_hosts(host, listener, names))
    except (ValueError, OSError, StoreError) as error:
        refuse(error)
    except KeyboardInterrupt:
        pass  # before the server listens, and again when it has ended
    click.echo("ended")


def addresses(host: str, listener: socket.socket) -> str:
    """The URL of the page; also one for other machines if the server listens on all addresses."""
    address, port = listener.getsockname()[:2]
    if not ipaddress.ip_address(address).is_unspecified:
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}"
    return f"http://127.0.0.1:{port}, from other machines http://{socket.gethostname()}:{port}"


def accepted_hosts(host: str, listener: socket.socket, names: tuple[str, ...]) -> Hosts:
    """The hosts that the server accepts: loopback only, or all its addresses and names."""
    loopback = ipaddress.ip_address(listener.getsockname()[0]).is_loopback
    own = () if loopback else (socket.gethostname(),)
    return Hosts(frozenset({host, *LOOPBACK, *own, *names}), any_address=not loopback)
