"""Exit codes: how a command ends, as scripts see it; and the one line that goes with it.

No traceback reaches the user unless it is asked for with `redrive --debug`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from enum import IntEnum

import click

from redrive.cli.printable import printable
from redrive.errors import (
    BrokerUnavailable,
    ConfigurationError,
    DatabaseUnusable,
    NotFound,
    OutcomeUnknown,
    QueueNotFound,
    RedriveError,
    StoreUnavailable,
    VersionConflict,
)


class Exit(IntEnum):
    """The exit codes; 75 and 78 are those of sysexits.h."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    NOT_FOUND = 3
    TEMPORARY = 75
    CONFIGURATION = 78
    INTERRUPTED = 130
    READER_GONE = 141


MEANINGS = {
    Exit.DONE: "done",
    Exit.REFUSED: "refused or failed; nothing is half done, unless the error says so",
    Exit.USAGE: "the command line cannot be understood",
    Exit.NOT_FOUND: "the queue, letter, saga or dependency named does not exist",
    Exit.TEMPORARY: "the broker or store is unavailable, or the outcome is unknown: try again",
    Exit.CONFIGURATION: "no application or broker is named, or it cannot be used as it is",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
    Exit.READER_GONE: "whoever read the output went away",
}
_TEMPORARY = (BrokerUnavailable, OutcomeUnknown, StoreUnavailable, VersionConflict)


def exit_code(error: RedriveError) -> Exit:
    """The exit code that tells a script what kind of error this was."""
    if isinstance(error, (QueueNotFound, NotFound)):
        return Exit.NOT_FOUND
    if isinstance(error, (ConfigurationError, DatabaseUnusable)):
        return Exit.CONFIGURATION
    return Exit.TEMPORARY if isinstance(error, _TEMPORARY) else Exit.REFUSED


def epilog() -> str:
    """The exit codes, for the end of `redrive --help`."""
    lines = [f"  {code.value:>3}  {meaning}" for code, meaning in MEANINGS.items()]
    return "\n".join(["\b", "Exit codes:", *lines])


def markdown() -> str:
    """The exit codes as a table, for the documentation."""
    rows = [f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join(["| exit code | meaning |", "| ---: | --- |", *rows])


def complain(sentence: str) -> None:
    """Write one `error: …` line to standard error, whatever the sentence holds."""
    click.echo(f"error: {printable(sentence)}", err=True)


@contextlib.contextmanager
def ending(*, debug: bool) -> Iterator[None]:
    """Turn whatever a command raises into one line and an exit code."""
    try:
        yield
    except (click.exceptions.Exit, click.UsageError):
        raise
    except click.Abort:
        _end("cancelled", Exit.REFUSED)
    except click.ClickException as error:
        _end(error.format_message(), Exit.REFUSED)
    except BrokenPipeError:
        _silence()
        raise click.exceptions.Exit(Exit.READER_GONE) from None
    except KeyboardInterrupt:
        _end("interrupted", Exit.INTERRUPTED)
    except RedriveError as error:
        _explain(debug=debug)
        _end(str(error), exit_code(error))
    except Exception as error:  # noqa: BLE001 - the outermost place: a user sees one line, and how to see more
        _explain(debug=debug)
        hint = "" if debug else "; `redrive --debug …` shows the traceback"
        _end(f"{type(error).__name__}: {error}{hint}", Exit.REFUSED)


def _end(sentence: str, code: Exit) -> None:
    complain(sentence)
    raise click.exceptions.Exit(code) from None


def _explain(*, debug: bool) -> None:
    if debug:
        click.echo(printable(traceback.format_exc(), lines=True), err=True, nl=False)


def _silence() -> None:
    """Let what is still buffered go nowhere, so that Python does not complain about it when it ends."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
