"""`redrive worker`, `redrive dev` and `redrive demo`: what runs until it is stopped."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from redrive.cli.exits import Exit, complain
from redrive.cli.target import loaded
from redrive.cli.values import length_of_time
from redrive.errors import DeclarationError

_GRACE = "25s"
_LEVELS = click.Choice(["debug", "info", "warning", "error", "critical"], case_sensitive=False)
_PORT = click.IntRange(1, 65_535)

_app = click.argument("app", required=False, metavar="[APP]")
_app_dir = click.option("--app-dir", default=".", show_default=True, help="The folder that its module is found in.")
_grace = click.option(
    "--grace",
    type=length_of_time,
    metavar="TIME",
    default=_GRACE,
    show_default=True,
    help="How long running handlers have to finish.",
)
_log_level = click.option("--log-level", type=_LEVELS, default="info", show_default=True)


@click.command()
@_app
@_app_dir
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="How many workers to keep.")
@_grace
@_log_level
@click.pass_context
def worker(ctx: click.Context, app: str | None, *, app_dir: str, processes: int, grace: float, log_level: str) -> None:
    """Keep workers running, in processes of their own.

    APP is module:attribute or path/to/file.py:attribute. Unless given, it is REDRIVE_APP, or the app of [tool.redrive]
    in the nearest pyproject.toml. SIGTERM and Ctrl-C let running handlers finish.
    """
    from redrive.loading import log_to_stderr  # noqa: PLC0415 - `--help` does not need it
    from redrive.supervisor import supervise  # noqa: PLC0415 - likewise

    target = _named(app)
    log_to_stderr(log_level)
    ctx.exit(supervise(target, app_dir, processes=processes, grace=grace, log_level=log_level))


@click.command()
@_app
@_app_dir
@_grace
@_log_level
@click.pass_context
def dev(ctx: click.Context, app: str | None, *, app_dir: str, grace: float, log_level: str) -> None:
    """Run all of an application in this one process: worker, healer and timekeeper.

    APP is named as for `redrive worker`.
    """
    from redrive.child import REPLACE  # noqa: PLC0415 - `--help` does not need it
    from redrive.loading import log_to_stderr  # noqa: PLC0415 - likewise
    from redrive.supervisor import run_here  # noqa: PLC0415 - likewise

    application = loaded(_named(app), app_dir)
    log_to_stderr(log_level)
    code = run_here(application, grace=grace)
    if code == REPLACE:
        complain("a handler's thread outlived its timeout and cannot be stopped; start again, or use `redrive worker`")
        sys.stdout.flush()
        os._exit(Exit.TEMPORARY)  # the thread would hold a clean exit up for ever
    ctx.exit(code)


@click.command()
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="The folder that keeps its orders.")
@click.option("--port", type=_PORT, default=8000, show_default=True, help="The shop's port.")
@click.option("--payments-port", type=_PORT, default=8001, show_default=True, help="The payment system's port.")
@click.pass_context
def demo(ctx: click.Context, *, data: Path | None, port: int, payments_port: int) -> None:
    """Open the coffee shop: order, break the payment system, watch it heal. Everything is on 127.0.0.1."""
    from redrive.demo import run  # noqa: PLC0415 - `--help` does not need it

    ctx.exit(run(data, port, payments_port))


def _named(app: str | None) -> str:
    """The application on the command line, or the configured one.

    Raises:
        DeclarationError: If there is neither.
    """
    from redrive.loading import configured_target  # noqa: PLC0415 - `--help` does not need it

    target = app or configured_target()
    if target is None:
        raise DeclarationError(
            "an application",
            "is not named",
            'give it as module:attribute, set REDRIVE_APP, or write app = "module:attribute" below [tool.redrive] '
            "in pyproject.toml",
        )
    return target
