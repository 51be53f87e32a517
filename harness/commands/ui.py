"""`python -m harness ui`: the MLflow UI, and a link to the newest sweep's charts."""

import signal
import time
from functools import partial
from pathlib import Path

import click

from harness.commands.options import OUTPUTS, URI, refuse
from harness.runfolder.optional import attempt
from harness.runfolder.plan import all_plans
from harness.runfolder.target import Target
from harness.tracking.store import Store
from harness.tracking.ui import serve
from harness.tracking.views import save_view, swept_params, view_link


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
            click.echo(f"the MLflow UI is at {address}   (Ctrl-C ends it)")
            link = attempt("link", partial(newest_view, outputs, target, address), None)
            if link:
                click.echo(f"the newest sweep's charts: {link}")
            while True:
                time.sleep(3600)
    except (ValueError, RuntimeError) as error:
        refuse(error)
    except KeyboardInterrupt:
        click.echo("ended")


def newest_view(outputs: Path, target: Target, address: str) -> str | None:
    """Store the newest sweep's view with its experiment and return the link to it.

    None when the store does not have the sweep. address: where the store's UI is served.
    """
    for plan in all_plans(outputs)[-1:]:
        readable = plan.readable_runs(outputs)
        delivered = readable[0].delivered() if readable else {}
        if delivered.get("store") == target.key:
            params = swept_params(plan.jobs[0].swept, readable[0].history().params)
            experiment_id = delivered["experiment_id"]
            save_view(Store(target).client, experiment_id, plan.id, params)
            return view_link(address, experiment_id, plan.id)
    return None
