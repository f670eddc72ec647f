"""`redrive queue`."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from redrive.message import MAX_BODY
from tests.cli.conftest import Cafe

GOOD = '{"customer":"Ada","drink":"mocha"}'


def test_ls_lists_what_is_consumed(cafe: Cafe) -> None:
    """One line for each queue, with what waits behind it; parked and dead queues are columns, not lines."""
    header, line = cafe.run("queue", "ls").stdout.splitlines()
    assert header.split() == ["QUEUE", "READY", "IN", "FLIGHT", "DELAYED", "PARKED", "DEAD", "STATE"]
    assert line.split() == ["orders", "0", "0", "0", "1", "3"]
    assert cafe.json("queue", "ls") == [
        {"queue": "orders", "ready": 0, "in_flight": 0, "delayed": 0, "parked": 1, "dead": 3, "paused": False}
    ]


def test_show_says_who_waits_and_who_works(cafe: Cafe) -> None:
    """A queue's counts, its parked messages by dependency, and its workers."""
    assert "parked for payments  1, the oldest sent" in cafe.run("queue", "show", "orders").stdout
    (document,) = cafe.json("queue", "show", "orders")
    assert document["dead"] == 3
    assert [(one["dependency"], one["count"]) for one in document["parked_for"]] == [("payments", 1)]
    assert [one["alive"] for one in document["workers"]] == [False]


@pytest.mark.parametrize("app", [True, False])
def test_send_puts_a_message_in(cafe: Cafe, app: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """With the application the type is asked, without it the schema; and which it was is said."""
    (sent,) = cafe.json("queue", "send", "orders", GOOD, "--attribute", "from=till=2", app=app)
    assert sent["action"] == "sent"
    assert sent["checked"] == ("type" if app else "schema")
    (message,) = cafe.messages()
    assert (message.id, message.body, message.attributes) == (sent["id"], GOOD.encode(), {"from": "till=2"})
    said = cafe.run("queue", "send", "orders", GOOD, app=app).stdout
    assert ("against the type" if app else "against the schema alone") in said


@pytest.mark.parametrize("way", ["argument", "stdin", "file"])
def test_send_takes_the_body_as_it_is(cafe: Cafe, way: str) -> None:
    """From the command line, from standard input or from a file, not a byte is changed."""
    body = b' {"customer": "Ada",\n"drink": "caf\xc3\xa9"}\n'
    Path("body.json").write_bytes(body)
    source = {"argument": [body.decode()], "stdin": ["-"], "file": ["--file", "body.json"]}[way]
    cafe.run("queue", "send", "orders", *source, given=body)
    assert [message.body for message in cafe.messages()] == [body]


def test_send_can_wait(cafe: Cafe) -> None:
    """A delayed message is counted as such."""
    cafe.run("queue", "send", "orders", GOOD, "--delay", "10m")
    assert cafe.json("queue", "ls")[0]["delayed"] == 1


@pytest.mark.parametrize("app", [True, False])
@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"customer":"Ada"', "not valid JSON"),
        (b'{"customer":"Ada","drink":3}', "drink"),
        (b'{"customer":"Ada","drink":"x","size":"big"}', "size"),
        (b"[" * 1000 + b"]" * 1000, "nested too deeply|the whole"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"customer":"Ada","drink":NaN}', "NaN is not JSON"),
        (b'{"drink":"a","drink":"b"}', "'drink' stands twice"),
        (b'{"customer":"\\ud800","drink":"x"}', "half of a surrogate pair"),
        (b'{"customer":"\xff","drink":"x"}', "not UTF-8"),
        (b"\x00", "not valid JSON"),
        (b'{"customer":"\x00","drink":"x"}', "not valid JSON"),
        (b"", "not valid JSON"),
        (b'{"drink":"x","customer":"' + b"x" * MAX_BODY + b'"}', f"(at most|limit of) {MAX_BODY}"),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else None,
)
def test_send_refuses_what_does_not_fit(cafe: Cafe, body: bytes, problem: str, app: bool) -> None:  # noqa: FBT001
    """Each bad body is one line that says what is wrong; nothing is sent."""
    line = cafe.refused("queue", "send", "orders", "-", given=body, app=app)
    assert re.search(problem, line), line
    assert len(line) < 500
    assert cafe.messages() == []


@pytest.mark.parametrize("body", [b"\x00\xff{", b'{"drink":', b"[" * 1000 + b"]" * 1000, b""])
def test_send_unchecked_is_how_strangers_send(cafe: Cafe, body: bytes) -> None:
    """Whatever it is, it arrives as it was, and can be looked at."""
    (sent,) = cafe.json("queue", "send", "orders", "-", "--unchecked", given=body)
    assert sent["checked"] is None
    (seen,) = cafe.json("queue", "peek", "orders")
    whole = seen["body"].encode() if seen["body"] is not None else base64.b64decode(seen["body_base64"])
    assert whole == body
    assert cafe.run("queue", "peek", "orders").stdout.replace("\n", "").isprintable()


def test_send_unchecked_has_its_limit(cafe: Cafe) -> None:
    """A body over the limit would leave no room for its failure record."""
    line = cafe.refused("queue", "send", "orders", "-", "--unchecked", given=b"x" * (MAX_BODY + 1))
    assert str(MAX_BODY) in line


def test_send_dry_run_sends_nothing(cafe: Cafe) -> None:
    """It checks, says so and leaves the queue as it was."""
    (would,) = cafe.json("queue", "send", "orders", GOOD, "--dry-run")
    assert (would["action"], would["id"], would["checked"]) == ("would send", None, "schema")
    assert "drink" in cafe.refused("queue", "send", "orders", '{"customer":"Ada","drink":1}', "--dry-run")
    assert cafe.messages() == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "give the body"),
        ([GOOD, "--file", "x"], "given twice"),
        (["--file", "missing"], "cannot be read"),
        (["--file", "."], "directory"),
        ([GOOD, "--attribute", "novalue"], "is not like name=value"),
        ([GOOD, "--attribute", "a=\udcff"], "is not UTF-8"),
        ([GOOD, "--attribute", "a=1", "--attribute", "a=2"], "'a' is given twice"),
        ([GOOD, "--delay", "soon"], "no length of time"),
        ([GOOD, "--delay", "-1"], "no length of time"),
        ([GOOD, "--delay", "nan"], "no length of time"),
    ],
)
def test_send_explains_a_wrong_command_line(cafe: Cafe, arguments: list[str], problem: str) -> None:
    """Exit code 2, the value and how to write it; nothing is sent."""
    result = cafe.run("queue", "send", "orders", *arguments, code=2)
    assert problem in result.stderr
    assert cafe.messages() == []


@pytest.mark.parametrize("command", ["show", "send", "peek", "purge", "pause", "resume"])
def test_an_unknown_queue_is_named(cafe: Cafe, command: str) -> None:
    """Exit code 3 and the name, escaped."""
    more = {"send": [GOOD], "purge": ["--yes"]}.get(command, [])
    line = cafe.refused("queue", command, "nowhere\x1b[31m", *more, code=3)
    assert "nowhere" in line
    assert "does not exist" in line
    assert "\x1b" not in line


def test_peek_looks_and_does_not_take(cafe: Cafe) -> None:
    """Messages are shown oldest first, at most as many as asked for, and stay where they are."""
    for number in range(12):
        cafe.run("queue", "send", "orders", str(number), "--unchecked")
    assert [one["body"] for one in cafe.json("queue", "peek", "orders", "--limit", "3")] == ["0", "1", "2"]
    assert len(cafe.json("queue", "peek", "orders")) == 10
    assert len(cafe.json("queue", "peek", "orders", "--limit", "500")) == 12
    assert cafe.json("queue", "ls")[0]["ready"] == 12


def test_peek_shows_why_a_message_is_dead(cafe: Cafe) -> None:
    """In dead and parked queues, the reason and the counters come with it."""
    dead = {one["id"]: one for one in cafe.json("queue", "peek", "orders-dead")}
    assert dead[cafe.bomb]["attempts"] == 2
    assert "boom" in dead[cafe.bomb]["reason"]
    (parked,) = cafe.json("queue", "peek", "orders-parked-payments")
    assert set(parked) == {
        "id", "sent_at_ms", "attributes", "group", "attempts", "bounces", "crashes", "reason", "size", "body",
        "body_base64",
    }  # fmt: skip


def test_peek_says_that_there_is_nothing(cafe: Cafe) -> None:
    """Nothing on standard output, for scripts; a sentence on standard error, for people."""
    result = cafe.run("queue", "peek", "orders")
    assert (result.stdout, result.stderr) == ("", "queue orders is empty\n")


def test_purge_deletes_after_a_yes(cafe: Cafe) -> None:
    """Without a terminal it has to be said on the command line."""
    cafe.run("queue", "send", "orders", GOOD)
    assert "--yes" in cafe.refused("queue", "purge", "orders")
    assert cafe.json("queue", "purge", "orders", "--dry-run") == [
        {"action": "would purge", "queue": "orders", "count": 1}
    ]
    assert len(cafe.messages()) == 1
    assert cafe.json("queue", "purge", "orders", "--yes") == [{"action": "purged", "queue": "orders", "count": 1}]
    assert cafe.messages() == []


def test_purge_leaves_dead_letters_alone(cafe: Cafe) -> None:
    """They are discarded instead, which is written down."""
    assert "dead discard --all --queue orders" in cafe.refused("queue", "purge", "orders-dead", "--yes")
    assert len(cafe.messages("orders-dead")) == 3


def test_pause_and_resume(cafe: Cafe) -> None:
    """A paused queue shows as such until it is resumed; twice is once."""
    for _ in range(2):
        assert cafe.json("queue", "pause", "orders") == [{"action": "paused", "queue": "orders"}]
    assert "paused" in cafe.run("queue", "ls").stdout
    assert "paused" in cafe.run("queue", "show", "orders").stdout
    for _ in range(2):
        assert cafe.json("queue", "resume", "orders") == [{"action": "resumed", "queue": "orders"}]
    assert cafe.json("queue", "ls")[0]["paused"] is False
