"""`redrive saga check` and `redrive saga graph`: what an application's code says of its sagas."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from redrive.cli.output import Output
from redrive.cli.run import _named as named_app
from redrive.cli.target import Target, loaded, opened
from redrive.errors import DeclarationError, OperationRefused

if TYPE_CHECKING:
    from redrive.app import App
    from redrive.cli.saga_graph import Form
    from redrive.operations import Hindered

_queue = click.option("--queue", help="Only sagas of this queue.")
_app = click.argument("app", required=False, metavar="[APP]")
_app_dir = click.option("--app-dir", default=".", show_default=True, help="The folder that its module is found in.")
_broker = click.option("--broker", metavar="ADDRESS", help="Where its sagas are, instead of where the code says.")


@click.command("check")
@_app
@_app_dir
@_broker
@_queue
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def check(app: str | None, *, app_dir: str, broker: str | None, queue: str | None, as_json: bool) -> None:
    """Say which sagas this code could not continue, and why: before a deploy.

    Every saga that has not ended is held against the code of APP: its version, its steps and their undos, what they
    were given and gave, and a replay in which no step runs. The exit code is 1 if there is any that would be stuck. APP
    is named as for `redrive worker`. Nothing is written, and no queue is declared.
    """
    if broker:
        os.environ["REDRIVE_BROKER"] = broker
    application = loaded(named_app(app), app_dir)
    target = Target(app=None, app_dir=app_dir, broker=application.address())
    asyncio.run(_check(application, target, Output(as_json=as_json), queue))


@click.command("graph")
@_app
@_app_dir
@_broker
@_queue
@click.option("--id", "saga", metavar="ID", help="One saga as it went, instead of the steps that the code has.")
@click.option("--format", "form", type=click.Choice(["mermaid", "dot"]), default="mermaid", show_default=True)
def graph(
    app: str | None, *, app_dir: str, broker: str | None, queue: str | None, saga: str | None, form: Form
) -> None:
    """Print a saga as a graph: the steps that the code of APP has, or with --id how one went.

    With --id no code is needed where --broker says where it is.
    """
    if saga is not None:
        asyncio.run(_graph_of_one(Target(app=app, app_dir=app_dir, broker=broker), saga, queue, form))
        return
    from redrive.cli.saga_graph import of_code  # noqa: PLC0415 - `--help` does not need it
    from redrive.sagas.definition import SagaConsumer  # noqa: PLC0415 - likewise

    application = loaded(named_app(app), app_dir)
    found = [one for one in application.consumers if isinstance(one, SagaConsumer) and queue in {None, one.queue}]
    if not found:
        wanted = "a saga" if queue is None else f"a saga of queue {queue!r}"
        raise DeclarationError(wanted, f"is not in application {application.name!r}", "declare one with @queue.saga")
    for one in found:
        one.prepare()
        click.echo(of_code(one, form))


async def _graph_of_one(target: Target, saga: str, queue: str | None, form: Form) -> None:
    from redrive.cli.saga_graph import of_instance  # noqa: PLC0415 - `--help` does not need it

    async with opened(target) as operations:
        found = await operations.sagas.named(saga, queue)
        click.echo(of_instance(await operations.sagas.instance(found.queue, found.id), form))


async def _check(app: App[Any], target: Target, output: Output, queue: str | None) -> None:
    count = 0
    async with opened(target) as operations, contextlib.aclosing(operations.sagas.hindered(app, queue)) as found:
        async for one in found:
            count += 1
            _print_hindered(output, one)
    if count:
        noun = "saga" if count == 1 else "sagas"
        remedy = "keep versions, steps and undos until the last saga that needs them has ended"
        raise OperationRefused(f"{count} {noun}", "would be stuck with this code", remedy)
    output.note("this code can continue every saga")


def _print_hindered(output: Output, one: Hindered) -> None:
    if output.as_json:
        output.json(asdict(one))
        return
    version = "" if one.version is None else f", version {one.version}"
    output.heading(f"{one.id} of {one.queue}: {one.state}{version}")
    output.block("\n".join(one.problems))
