"""Processes take turns: nobody overtakes who waits, and who has the turn says what time it is."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from redrive.sqlite.turn import Turn, turn_for

DEADLINE = 10.0


@pytest.fixture
def turns(tmp_path: Path) -> Iterator[tuple[Turn, Turn]]:
    both = turn_for(str(tmp_path / "a.db")), turn_for(str(tmp_path / "a.db"))
    yield both
    for turn in both:
        turn.close()


def is_waited_for(path: Path) -> bool:
    """Whether somebody holds the lock of those who wait."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_who_comes_back_at_once_stands_behind_who_waits(tmp_path: Path, turns: tuple[Turn, Turn]) -> None:
    """Every time: waking up takes longer than giving and taking again, and would lose nearly every race."""
    mine, other = turns
    for _ in range(100):
        order: list[str] = []

        def wait(order: list[str] = order) -> None:
            other.take()
            order.append("who waited")
            other.give()

        mine.take()
        waiting = threading.Thread(target=wait)
        waiting.start()
        until = time.monotonic() + DEADLINE
        while not is_waited_for(tmp_path / "a.db-next"):
            assert time.monotonic() < until
        mine.give()
        mine.take()
        order.append("who came back")
        mine.give()
        waiting.join(DEADLINE)
        assert order == ["who waited", "who came back"]


def test_a_process_that_dies_lets_go_of_its_turn(tmp_path: Path) -> None:
    """`kill -9` in the middle of a turn: the next one has it."""
    path = tmp_path / "a.db"
    code = (
        f"from redrive.sqlite.turn import turn_for; turn_for({str(path)!r}).take(); print('mine', flush=True); input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mine\n"
        process.kill()
    turn = turn_for(str(path))
    turn.take()
    turn.give()
    turn.close()


def test_the_time_is_what_was_noted_plus_what_has_passed(turns: tuple[Turn, Turn]) -> None:
    """By the clock that counts from the start of the machine, which all processes share."""
    mine, other = turns
    assert other.noted_time_ms(boot="b1", monotonic=5.0) is None
    mine.note_time(boot="b1", monotonic=100.0, engine_ms=1_700_000_000_000)
    mine.note_time(boot="b1", monotonic=9.5, engine_ms=1_700_000_001_000)
    assert other.noted_time_ms(boot="b1", monotonic=9.5) == 1_700_000_001_000
    assert other.noted_time_ms(boot="b1", monotonic=11.0) == 1_700_000_002_500
    assert other.noted_time_ms(boot="b1", monotonic=909.0) == 1_700_000_900_500
    assert other.noted_time_ms(boot="b1", monotonic=910.0) is None


def test_a_note_of_another_start_of_the_machine_means_nothing(turns: tuple[Turn, Turn]) -> None:
    """Its clock counted from somewhere else."""
    turns[0].note_time(boot="b1", monotonic=100.0, engine_ms=1_700_000_000_000)
    assert turns[1].noted_time_ms(boot="b2", monotonic=100.0) is None


@pytest.mark.parametrize("noise", [b"", b"\n", b"b1\n", b"b1 x y\n", b"\xff\xff\xff\n", b"b1 1.0 2 3\n", b"b1 " * 333])
def test_noise_in_the_lock_s_file_means_nothing(tmp_path: Path, turns: tuple[Turn, Turn], noise: bytes) -> None:
    """Anybody may have written there."""
    (tmp_path / "a.db-lock").write_bytes(noise)
    assert turns[0].noted_time_ms(boot="b1", monotonic=1.0) is None


def test_what_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    """The second of the two files is in the way: an error, and the first one is closed again."""
    (tmp_path / "a.db-next").mkdir()
    before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(IsADirectoryError, match=r"a\.db-next"):
        turn_for(str(tmp_path / "a.db"))
    assert len(list(Path("/dev/fd").iterdir())) == before
