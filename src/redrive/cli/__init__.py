"""The command line: `redrive`.

One module for each group of commands. Each command is a thin shell around one of `redrive.operations`, which also
decide what is refused; what they raise becomes one line and an exit code in `exits`. Heavy modules are imported when a
command runs, so that `--help` and `--version` are quick.
"""

from __future__ import annotations

import logging
import sys
from io import TextIOWrapper
from typing import Any

import click
from typing_extensions import override

from redrive import __version__
from redrive.cli import circuit, dead, exits, file, outbox, parked, queue, run, saga, serve

_SILENT = logging.NullHandler()


class _Redrive(click.Group):
    """The group that ends every command in one line and an exit code."""

    @override
    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        return super().make_context("redrive", args, parent, **extra)  # under `python -m redrive` too

    @override
    def invoke(self, ctx: click.Context) -> object:
        with exits.ending(debug=bool(ctx.params["debug"])):
            return super().invoke(ctx)


@click.group(cls=_Redrive, epilog=exits.epilog(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="redrive", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error, and log lines.")
def main(*, debug: bool) -> None:
    """Self-healing message consumers.

    Run an application with `worker` or `dev`, try it with `demo`, and operate it with the rest: `queue`, `dead`,
    `parked`, `circuit` and `saga` need no code, only the broker's address. `doctor` and `recover` are for its file, and
    `serve` answers as Amazon SQS.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character must not end the command
    if not debug:
        logging.getLogger("redrive").addHandler(_SILENT)  # what there is to say stands in results and errors


for _command in (
    run.worker,
    run.dev,
    run.demo,
    serve.serve,
    queue.group,
    dead.group,
    parked.group,
    circuit.group,
    saga.group,
    outbox.group,
    file.doctor,
    file.recover,
):
    main.add_command(_command)

__all__ = ["main"]
