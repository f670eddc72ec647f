"""Questions to whoever sits at the terminal. They are put on standard error; without a terminal nobody is asked."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import click

from redrive.cli.printable import printable
from redrive.errors import OperationRefused


def somebody_is_there() -> bool:
    """Whether there is a terminal to ask on."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm_typed(deed: str, word: str, *, yes: bool) -> None:
    """Have a word typed before something that cannot be undone.

    Args:
        deed: what would be done: `discarding 3 letters`.
        word: what has to be typed.
        yes: it was confirmed on the command line.

    Raises:
        OperationRefused: If it is not typed, or nobody is there to type it.
    """
    if yes:
        return
    if not somebody_is_there():
        raise OperationRefused(deed, "cannot be undone and was not confirmed", "add --yes")
    with _interruptible(signal.default_int_handler):
        question = printable(f"{deed} cannot be undone; type {word!r} to go on")
        answer: str = click.prompt(question, default="", show_default=False, err=True)
    if answer.strip() != word:
        raise OperationRefused(deed, "was not confirmed", "nothing was changed")


def agreed(question: str) -> bool:
    """Ask a question whose answer is mostly yes."""
    with _interruptible(signal.default_int_handler):
        return click.confirm(printable(question), default=True, err=True)


def edited(text: str) -> str | None:
    """Let a person change a text in $VISUAL or $EDITOR; None when it was left without saving.

    Ctrl-C belongs to the editor while it runs.
    """
    with _interruptible(lambda _number, _frame: None):
        return click.edit(text, extension=".json")


@contextlib.contextmanager
def _interruptible(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Take Ctrl-C from the event loop, which would wait for a question to be answered before it stops."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
