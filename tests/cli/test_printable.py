"""What is printed cannot command a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.cli.printable import age, body_text, duration, instant, printable, shortened, width


@given(st.text())
def test_nothing_that_moves_a_cursor_survives(text: str) -> None:
    """Whatever text comes in, what comes out is one line of printable characters."""
    assert printable(text).isprintable()


@given(st.text())
def test_lines_are_all_that_is_kept_on_request(text: str) -> None:
    """With `lines`, line breaks survive and nothing else that is not printable."""
    assert all(line.isprintable() for line in printable(text, lines=True).split("\n"))


@given(st.binary())
def test_every_body_can_be_shown(body: bytes) -> None:
    """Bytes that are not UTF-8 are escaped, not refused."""
    assert printable(body_text(body)).isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("\x9b2J", "\\x9b2J"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("[red]naïve ☕[/red]", "[red]naïve ☕[/red]"),
    ],
)
def test_escapes_are_readable(text: str, shown: str) -> None:
    """Controls, writing directions and surrogates are escaped; letters and markup stay as they are."""
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0 ms"), (0.25, "250 ms"), (59.9, "59 s"), (60, "1 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_durations_use_the_largest_unit(seconds: float, shown: str) -> None:
    """A length of time is a number and one unit."""
    assert duration(seconds) == shown


def test_times_that_no_calendar_reaches_are_numbers() -> None:
    """A foreign producer may claim any time of sending."""
    assert instant(10**18) == f"{10**18} ms"
    assert age(0, 5) == "-"
    assert age(10_000, 0) == "1 s"


def test_width_counts_columns() -> None:
    """Wide characters take two columns and accents none."""
    assert width("咖啡") == 4
    assert width("e\u0301") == 1
    assert shortened("cappuccino", 5) == "capp…"
