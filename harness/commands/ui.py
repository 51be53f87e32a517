"""`python -m harness ui`: start the MLflow UI and link to the newest sweep's charts."""

import signal
import time
from functools import partial
from pathlib import Path

import click

from harness.commands.options import OUTPUTS, URI, refuse
from harness.runfolder.optional import attempt
from harness.runfolder.selection import shown_plans
from harness.runfolder.target import Target
from harness.tracking.store import Store
from harness.tracking.ui import serve, set_tag
from harness.tracking.views import View, save_view, view_link


@click.command()
@OUTPUTS
@click.option("--port", default=5000, show_default=True, help="Port on 127.0.0.1.")
@URI
def ui(outputs: Path, port: int, uri: str | None) -> None:
    """Start the MLflow UI on loopback and link to the newest sweep's charts."""
    target = Target.named(uri, outputs)
    if target.database is not None and not target.database.exists():
        refuse(ValueError(f"{target.database}: no results yet; start a run first"))
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job ignores SIGINT
        signal.signal(number, signal.default_int_handler)
    try:
        with serve(target, port) as address:
            click.echo(f"the MLflow UI is at {address}")
            link = attempt("link", partial(newest_view, outputs, target, address), None)
            if link:
                click.echo(f"the newest sweep's charts: {link}")
            click.echo("this command serves it, and runs until Ctrl-C stops it")
            while True:
                time.sleep(3600)
    except (ValueError, RuntimeError) as error:
        refuse(error)
    except KeyboardInterrupt:
        click.echo("ended")


def newest_view(outputs: Path, target: Target, address: str) -> str | None:
    """Store the newest sweep's view with its experiment; returns the link to it.

    None if the store does not have the sweep. address: the URL of the store's UI.
    """
    for plan in shown_plans(outputs)[-1:]:
        view, readable = View.of(plan, outputs), plan.readable_runs(outputs)
        delivered = readable[0].delivered() if readable else {}
        if view is not None and delivered.get("store") == target.key:
            experiment_id = delivered["experiment_id"]
            try:
                set_tag(address, experiment_id, *view.tag())
            except OSError:  # the server answers other hosts only: its settings are the user's
                save_view(Store(target).client, experiment_id, view)
            return view_link(address, experiment_id, plan.id)
    return None
