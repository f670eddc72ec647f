"""`redrive serve`: the embedded broker as an endpoint of Amazon SQS."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from redrive.sqs_api.door import Settings

_LARGEST_PORT = 65_535
_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]{1,2}", re.ASCII)


@click.command()
@click.option(
    "--database",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The file that keeps queues and messages; made if it is missing.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; beyond loopback it needs keys.")
@click.option("--port", type=click.IntRange(0, _LARGEST_PORT), default=9324, show_default=True, help="0: any free one.")
@click.option(
    "--public-url",
    metavar="URL",
    help="Where clients find it behind a proxy, https://sqs.example.net: the URLs of queues begin so.",
)
@click.option(
    "--account",
    default="000000000000",
    show_default=True,
    callback=lambda _ctx, _option, text: _fitting(_ACCOUNT, text, "twelve digits"),
    help="The account that all queues belong to.",
)
@click.option(
    "--region",
    default="us-east-1",
    show_default=True,
    callback=lambda _ctx, _option, text: _fitting(_REGION, text, "a region like us-east-1"),
    help="The region that all queues are in.",
)
@click.option(
    "--durability",
    type=click.Choice(["full", "relaxed"]),
    default="full",
    show_default=True,
    help="What a power cut may take: nothing, or the last moments.",
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def serve(
    *,
    database: Path,
    host: str,
    port: int,
    public_url: str | None,
    account: str,
    region: str,
    durability: str,
    log_level: str,
) -> None:
    """Answer as Amazon SQS, for every client that speaks it.

    Signatures are checked against REDRIVE_ACCESS_KEYS=ID:SECRET,ID:SECRET. Without it only this machine's programs are
    answered, signed or not. SIGTERM and Ctrl-C stop it within a second.
    """
    from redrive.loading import log_to_stderr  # noqa: PLC0415 - `--help` does not need it
    from redrive.sqs_api.door import Settings  # noqa: PLC0415 - likewise
    from redrive.sqs_api.server import new_loop  # noqa: PLC0415 - likewise
    from redrive.sqs_api.signatures import VARIABLE, parsed_keys  # noqa: PLC0415 - likewise

    text = os.environ.get(VARIABLE, "")
    keys = parsed_keys(text) if text else {}
    settings = Settings(host=host, account=account, region=region, keys=keys, public_url=public_url)
    log_to_stderr(log_level)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_serve(database.expanduser().resolve(), port, durability, settings))


async def _serve(database: Path, port: int, durability: str, settings: Settings) -> None:
    from redrive.sqs_api.running import running  # noqa: PLC0415 - `--help` does not need it
    from redrive.sqs_api.server import until_told  # noqa: PLC0415 - likewise

    told = until_told(asyncio.get_running_loop())
    async with running(str(database), port, settings, durability=durability) as address:
        click.echo(_first_line(address, database, settings))
        await told.wait()


def _first_line(address: tuple[str, int], database: Path, settings: Settings) -> str:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    asked = "signed requests only" if settings.keys else "from this machine only, signed or not"
    return (
        f"Amazon SQS: http://{host}:{address[1]}  (account {settings.account}, region {settings.region}; {asked})\n"
        f"database: {database}"
    )


def _fitting(pattern: re.Pattern[str], text: str, meant: str) -> str:
    if pattern.fullmatch(text) is None:
        raise click.BadParameter(f"{text!r} is not {meant}")
    return text
