"""`redrive worker`, `redrive dev` and `redrive demo`: what runs until it is stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from redrive.cli.exits import Exit, complain
from redrive.cli.target import loaded
from redrive.cli.values import length_of_time
from redrive.credentials import without_credentials
from redrive.errors import DeclarationError, RedriveError

if TYPE_CHECKING:
    from redrive.app import App

_log = logging.getLogger("redrive.cli")
_SQS_PORT = 9324
_GRACE = "25s"
_LEVELS = click.Choice(["debug", "info", "warning", "error", "critical"], case_sensitive=False)
_LARGEST_PORT = 65_535
_PORT = click.IntRange(1, _LARGEST_PORT)

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
@click.option(
    "--health",
    metavar="HOST:PORT",
    callback=lambda _ctx, _option, text: None if text is None else _host_and_port(text),
    help="Answer GET /live and GET /ready here, for probes.",
)
@click.pass_context
def worker(
    ctx: click.Context,
    app: str | None,
    *,
    app_dir: str,
    processes: int,
    grace: float,
    log_level: str,
    health: tuple[str, int] | None,
) -> None:
    """Keep workers running, in processes of their own.

    APP is module:attribute or path/to/file.py:attribute. Unless given, it is REDRIVE_APP, or the app of [tool.redrive]
    in the nearest pyproject.toml. SIGTERM and Ctrl-C let running handlers finish.
    """
    from redrive.loading import log_to_stderr  # noqa: PLC0415 - `--help` does not need it
    from redrive.supervisor import supervise  # noqa: PLC0415 - likewise

    target = _named(app)
    log_to_stderr(log_level)
    listener = None if health is None else _listening(*health)
    code = supervise(target, app_dir, processes=processes, grace=grace, log_level=log_level, health=listener)
    ctx.exit(code)


@click.command()
@_app
@_app_dir
@_grace
@_log_level
@click.option(
    "--sqs-port",
    type=click.IntRange(0, _LARGEST_PORT),
    metavar="PORT",
    help=f"Where its queues answer as Amazon SQS; 0: nowhere. Unless given, {_SQS_PORT} if that is free.",
)
@click.pass_context
def dev(
    ctx: click.Context, app: str | None, *, app_dir: str, grace: float, log_level: str, sqs_port: int | None
) -> None:
    """Run all of an application in this one process: worker, healer and timekeeper.

    Where its broker is a file, every client of Amazon SQS can use its queues meanwhile, as with `redrive serve`. APP is
    named as for `redrive worker`.
    """
    from redrive.child import REPLACE  # noqa: PLC0415 - `--help` does not need it
    from redrive.loading import log_to_stderr  # noqa: PLC0415 - likewise
    from redrive.supervisor import run_here  # noqa: PLC0415 - likewise

    application = loaded(_named(app), app_dir)
    log_to_stderr(log_level)
    code = run_here(application, grace=grace, beside=None if sqs_port == 0 else _endpoint(application, sqs_port))
    if code == REPLACE:
        complain("a handler's thread outlived its timeout and cannot be stopped; start again, or use `redrive worker`")
        sys.stdout.flush()
        os._exit(Exit.TEMPORARY)  # the thread would hold a clean exit up for ever
    ctx.exit(code)


@click.command()
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="The folder that keeps its orders.")
@click.option("--port", type=_PORT, default=8000, show_default=True, help="The shop's port.")
@click.option("--payments-port", type=_PORT, default=8001, show_default=True, help="The payment system's port.")
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="How many workers to keep.")
@click.pass_context
def demo(ctx: click.Context, *, data: Path | None, port: int, payments_port: int, processes: int) -> None:
    """Open the coffee shop: order, break the payment system, watch it heal. Everything is on 127.0.0.1.

    Its orders go through a file, or through the broker that REDRIVE_BROKER names.
    """
    from redrive.demo import run  # noqa: PLC0415 - `--help` does not need it

    ctx.exit(run(data, port, payments_port, processes))


@contextlib.asynccontextmanager
async def _endpoint(app: App[Any], port: int | None) -> AsyncIterator[None]:
    """The application's queues as an endpoint of Amazon SQS. Where nobody asked for a port, it may fail to be there."""
    from redrive.connections import has_file, parsed  # noqa: PLC0415 - `--help` does not need it

    if not has_file(address := app.address()):
        if port is not None:
            problem = f"is for brokers in a file, and not for {without_credentials(address)}"
            raise DeclarationError("--sqs-port", problem, "leave it out")
        yield
        return
    path, durability = parsed(address)
    async with contextlib.AsyncExitStack() as stack:
        try:
            from redrive.sqs_api.door import Settings  # noqa: PLC0415 - likewise
            from redrive.sqs_api.running import running  # noqa: PLC0415 - likewise
            from redrive.sqs_api.signatures import VARIABLE, parsed_keys  # noqa: PLC0415 - likewise

            text = os.environ.get(VARIABLE, "")
            settings = Settings(keys=parsed_keys(text) if text else {})
            opening = running(path, _SQS_PORT if port is None else port, settings, durability=durability)
            host, found = await stack.enter_async_context(opening)
        except (ModuleNotFoundError, RedriveError) as error:
            if port is not None:
                raise
            _log.info("its queues do not answer as Amazon SQS: %s", error)
        else:
            _log.info("its queues answer as Amazon SQS at http://%s:%d", host, found)
        yield


def _host_and_port(text: str) -> tuple[str, int]:
    """`127.0.0.1:8081`, `localhost:8081` or `[::1]:8081`.

    Raises:
        BadParameter: If it is not like that.
    """
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""  # an IPv6 address has to stand in brackets, or nobody knows where it ends
    if not host or not port.isascii() or not port.isdecimal() or int(port) > _LARGEST_PORT:
        raise click.BadParameter(f"{text!r} is no HOST:PORT; write it like 127.0.0.1:8081 or [::1]:8081")
    return host, int(port)


def _listening(host: str, port: int) -> socket.socket:
    from redrive.health import listen  # noqa: PLC0415 - whoever asks for none pays for none

    return listen(host, port)


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
