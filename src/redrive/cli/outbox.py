"""`redrive outbox`: the table in your own database."""

from __future__ import annotations

import click

from redrive.outbox import DIALECTS
from redrive.outbox import ddl as ddl_of


@click.group("outbox")
def group() -> None:
    """The outbox: messages that are written in your own transactions."""


@group.command("ddl")
@click.argument("dialect", type=click.Choice(DIALECTS))
def ddl(dialect: str) -> None:
    """Print the SQL that makes the outbox's table; running it again changes nothing."""
    click.echo(ddl_of(dialect))
