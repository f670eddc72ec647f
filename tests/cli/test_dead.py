"""`redrive dead`: a person looks at what died, mends it and sends it back."""

from __future__ import annotations

import base64
import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from redrive.broker import Forward, Return
from redrive.cli.letter import print_letter
from redrive.cli.output import Output
from redrive.message import MAX_BODY, Message
from redrive.operations import Operations
from tests.cli.conftest import BOMB, HOSTILE, MALFORMED, Cafe

pytestmark = pytest.mark.usefixtures("any_broker")

MENDED = {"customer": "Ada", "price": 1.1, "drink": "mocha"}


def use_editor(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let $EDITOR be a Python script that changes `text`."""
    script = f"import sys, pathlib\np = pathlib.Path(sys.argv[1])\ntext = p.read_text()\n{code}\np.write_text(text)\n"
    Path("editor.py").write_text(script)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{shlex.quote(sys.executable)} {shlex.quote(os.path.abspath('editor.py'))}")  # noqa: PTH100


# Looking


def test_ls_lists_letters_by_time_of_sending(cafe: Cafe) -> None:
    """One line for each, with its id, how it died and why."""
    lines = cafe.run("dead", "ls").stdout.splitlines()
    assert lines[0].split() == ["ID", "QUEUE", "STATE", "DIED", "FAILURES", "REASON"]
    assert [line.split()[0] for line in lines[1:]] == sorted([cafe.malformed, cafe.hostile, cafe.bomb])
    assert "drink" in next(line for line in lines if cafe.malformed in line)


def test_ls_as_json(cafe: Cafe) -> None:
    """The field names are stable; times are milliseconds."""
    letters = {one["id"]: one for one in cafe.json("dead", "ls", "--queue", "orders")}
    assert letters[cafe.malformed]["kind"] == letters[cafe.hostile]["kind"] == "payload"
    assert list(letters[cafe.bomb]) == [
        "id", "queue", "state", "died_at_ms", "sent_at_ms", "reason", "kind", "error", "failures", "fingerprint", "size"
    ]  # fmt: skip
    assert letters[cafe.bomb]["failures"] == 2
    assert letters[cafe.bomb]["died_at_ms"] >= letters[cafe.bomb]["sent_at_ms"] > 1_700_000_000_000


def test_ls_says_when_it_leaves_letters_out(cafe: Cafe) -> None:
    """The limit is said on standard error, in nobody's way."""
    result = cafe.run("dead", "ls", "--limit", "2")
    assert len(result.stdout.splitlines()) == 3
    assert "more than 2" in result.stderr
    assert cafe.run("dead", "ls", "--limit", "3").stderr == ""


def test_ls_by_state(cafe: Cafe) -> None:
    """What was redriven or discarded can still be looked up."""
    cafe.run("dead", "discard", cafe.hostile, "--yes")
    assert [one["id"] for one in cafe.json("dead", "ls", "--state", "discarded")] == [cafe.hostile]
    assert len(cafe.json("dead", "ls", "--state", "all")) == 3
    assert cafe.run("dead", "ls", "--state", "redriven").stderr == "no letters\n"


def test_show_tells_the_whole_story(cafe: Cafe) -> None:
    """Body, attributes, reason, first and last failure with traceback, and each attempt."""
    text = cafe.run("dead", "show", cafe.bomb).stdout
    for part in (
        f"letter       {cafe.bomb}",
        '  {\n    "customer": "Eve",\n    "drink": "bomb"\n  }\n',
        "attribute    from=till\\x1b[5m",
        "\nfirst failure\n",
        "\nlast failure\n",
        "raise RuntimeError",
        "attempts: 2 recorded of 2",
    ):
        assert part in text


def test_show_as_json(cafe: Cafe) -> None:
    """All of it in one object, the body as it is."""
    (letter,) = cafe.json("dead", "show", cafe.bomb)
    assert (letter["body"], letter["body_base64"]) == (BOMB.decode(), None)
    assert letter["attributes"] == {"from": "till\x1b[5m"}
    assert "Traceback" in letter["first_failure"]["traceback"]
    assert [one["kind"] for one in letter["attempts"]] == ["raised", "raised"]
    assert letter["audit"] == []
    (hostile,) = cafe.json("dead", "show", cafe.hostile)
    assert hostile["body"] is None
    assert base64.b64decode(hostile["body_base64"]) == HOSTILE


@pytest.mark.parametrize("command", [["ls"], ["show"], ["ls", "--json"], ["show", "--json"]])
def test_hostile_letters_cannot_command_a_terminal(cafe: Cafe, command: list[str]) -> None:
    """Escapes in bodies, attributes and errors are printed as text; nothing but lines is left."""
    for identity in (cafe.hostile, cafe.bomb):
        arguments = [command[0], *([identity] if command[0] == "show" else []), *command[1:]]
        text = cafe.run("dead", *arguments).stdout
        assert all(line.isprintable() for line in text.split("\n"))
    if command == ["show"]:
        assert "\\x1b]0;owned\\x07 [bold]x[/bold] \\u202etxt" in cafe.run("dead", "show", cafe.hostile).stdout


def test_long_bodies_are_cut_for_people(cafe: Cafe, capsys: pytest.CaptureFixture[str], any_broker: str) -> None:
    """A megabyte is no help on a terminal; how much was left out is said."""
    print_letter(Output(as_json=False), cafe.letter(cafe.hostile), b"x" * 50_000)
    assert "30000 more characters; --json prints all" in capsys.readouterr().out
    cafe.run("queue", "send", "orders", "-", "--unchecked", given=b"x" * 50_000)
    if any_broker == "embedded":  # elsewhere queues cannot be looked into
        assert len(cafe.run("queue", "peek", "orders").stdout) < 1_000


@pytest.mark.parametrize("command", ["show", "edit", "redrive", "discard"])
def test_an_unknown_letter_is_named(cafe: Cafe, command: str) -> None:
    """Exit code 3, the id escaped, and where to look."""
    more = {"edit": ["--set", "a=1"], "discard": ["--yes"]}.get(command, [])
    line = cafe.refused("dead", command, "no\x1b[31m", *more, code=3)
    assert "does not exist" in line
    assert "redrive dead ls" in line
    assert "\x1b" not in line


@pytest.mark.parametrize("command", ["ls", "redrive", "discard"])
def test_an_unknown_queue_is_named(cafe: Cafe, command: str) -> None:
    """Not taken for a queue without letters."""
    more = [] if command == "ls" else ["--all"]
    assert "'nowhere' does not exist" in cafe.refused("dead", command, "--queue", "nowhere", *more, code=3)


def test_ids_may_be_cut(cafe: Cafe) -> None:
    """By their beginning, as long as it is one letter's alone."""
    beginnings = [cafe.bomb[:length] for length in range(1, 37)]
    others = (cafe.malformed, cafe.hostile)
    unique = next(one for one in beginnings if not any(other.startswith(one) for other in others))
    assert cafe.json("dead", "show", unique)[0]["id"] == cafe.bomb
    assert "could be any of 3" in cafe.refused("dead", "show", cafe.bomb[:4])


# Editing


@pytest.mark.parametrize(("app", "how"), [(True, "type"), (False, "schema")])
def test_a_mended_letter_goes_back_under_its_own_id(cafe: Cafe, app: bool, how: str) -> None:  # noqa: FBT001
    """`--set` changes one member and leaves the others; id, attributes and time of sending stay."""
    sent_at_ms = cafe.letter(cafe.malformed).sent_at_ms
    (done,) = cafe.json("dead", "edit", cafe.malformed, "--set", "drink=mocha", app=app)
    assert (done["action"], done["id"], done["queue"], done["checked"]) == ("redriven", cafe.malformed, "orders", how)
    assert '+  "drink": "mocha"' in done["diff"].splitlines()
    (message,) = cafe.messages()
    assert json.loads(message.body) == MENDED
    assert (message.id, message.sent_at_ms) == (cafe.malformed, sent_at_ms)
    assert message.attributes == {"from": "till\x1b[5m"}
    assert message.notes.attempts == 0
    assert cafe.dead() == {cafe.hostile, cafe.bomb}


def test_an_edit_is_written_down(cafe: Cafe) -> None:
    """`dead show` tells who did what, afterwards."""
    cafe.run("dead", "edit", cafe.malformed, "--set", "drink=mocha")
    text = cafe.run("dead", "show", cafe.malformed).stdout
    assert "audit trail" in text
    assert "edited and redriven" in text
    assert cafe.json("dead", "show", cafe.malformed)[0]["audit"][0]["what"] == "edited and redriven"


def test_without_code_the_check_is_said_to_be_weaker(cafe: Cafe) -> None:
    """An operator knows what was asked: the schema alone, or the type."""
    text = cafe.run("dead", "edit", cafe.malformed, "--set", "drink=mocha", "--dry-run").stdout
    assert "checked against the schema alone" in text
    text = cafe.run("dead", "edit", cafe.malformed, "--set", "drink=mocha", "--dry-run", app=True).stdout
    assert "checked against the type of its queue" in text


@pytest.mark.parametrize("app", [True, False])
@pytest.mark.parametrize("member", ["size=big", "drink=7"])
def test_what_still_does_not_fit_is_refused(cafe: Cafe, member: str, app: bool) -> None:  # noqa: FBT001
    """Before anything is sent, and the field is named."""
    line = cafe.refused("dead", "edit", cafe.malformed, "--set", "drink=mocha", "--set", member, app=app)
    assert member.partition("=")[0] in line
    assert cafe.messages() == []
    assert cafe.dead() == {cafe.malformed, cafe.hostile, cafe.bomb}


@pytest.mark.parametrize("flag", ["--no-redrive", "--dry-run"])
def test_an_edit_can_be_tried(cafe: Cafe, flag: str) -> None:
    """It is compared and checked; nothing is sent."""
    (would,) = cafe.json("dead", "edit", cafe.malformed, "--set", "drink=mocha", flag)
    assert would["action"] == "would redrive"
    assert cafe.messages() == []
    assert cafe.dead() == {cafe.malformed, cafe.hostile, cafe.bomb}


def test_a_letter_that_is_no_json_is_edited_as_a_whole(cafe: Cafe) -> None:
    """By members it is refused with the way that works; as a whole it is sent."""
    line = cafe.refused("dead", "edit", cafe.hostile, "--set", "drink=mocha")
    assert "--body" in line
    cafe.run("dead", "edit", cafe.hostile, "--body", json.dumps(MENDED))
    assert json.loads(cafe.messages()[0].body) == MENDED


def test_the_whole_body_can_come_from_a_file_or_standard_input(cafe: Cafe) -> None:
    """Byte for byte."""
    body = json.dumps(MENDED, indent=1).encode()
    Path("mended.json").write_bytes(body)
    cafe.run("dead", "edit", cafe.malformed, "--body-file", "mended.json")
    cafe.run("dead", "edit", cafe.hostile, "--body", "-", given=body)
    assert [message.body for message in cafe.messages()] == [body, body]


@pytest.mark.parametrize("app", [True, False])
@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply|not valid JSON"),
        (b'{"drink":NaN}', "NaN is not JSON"),
        (b'{"drink":"a","drink":"b"}', "stands twice"),
        (b'{"customer":"\\udfff","drink":"x"}', "surrogate"),
        (b"\x00", "not valid JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"drink":"x","customer":"' + b"x" * MAX_BODY + b'"}', str(MAX_BODY)),
    ],
    ids=["cut", "deep", "nan", "twice", "surrogate", "nul", "bytes", "large"],
)
def test_a_bad_body_is_refused(cafe: Cafe, body: bytes, problem: str, app: bool) -> None:  # noqa: FBT001
    """Nothing is lost: the letter is still dead, with the body that it had."""
    line = cafe.refused("dead", "edit", cafe.malformed, "--body", "-", given=body, app=app)
    assert any(one in line for one in problem.split("|")), line
    assert cafe.messages() == []
    assert cafe.json("dead", "show", cafe.malformed)[0]["body"] == MALFORMED.decode()


def test_an_editor_gets_readable_json(cafe: Cafe, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is indented for the editor and compact again in the queue."""
    use_editor(
        monkeypatch,
        """assert '  "customer": "Ada"' in text\ntext = text.replace('"price"', '"drink": "tea",\\n"price"')""",
    )
    cafe.run("dead", "edit", cafe.malformed, "--editor")
    assert cafe.messages()[0].body == b'{"customer":"Ada","drink":"tea","price":1.1}'


def test_an_editor_can_mend_what_is_no_json(cafe: Cafe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are no text are shown escaped."""
    use_editor(monkeypatch, """assert '\\\\xff' in text\ntext = '{"customer":"Ada","drink":"tea"}'""")
    cafe.run("dead", "edit", cafe.hostile, "--editor")
    assert cafe.messages()[0].body == b'{"customer":"Ada","drink":"tea"}'


def test_an_editor_that_changes_nothing_sends_nothing(cafe: Cafe, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken for a wish to redrive."""
    use_editor(monkeypatch, "")
    assert "changed nothing" in cafe.refused("dead", "edit", cafe.malformed, "--editor")
    assert cafe.messages() == []


def test_a_broken_editor_is_named(cafe: Cafe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent."""
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "no-such-editor-anywhere")
    assert "no-such-editor-anywhere" in cafe.refused("dead", "edit", cafe.malformed, "--editor")
    use_editor(monkeypatch, "raise SystemExit(1)")
    assert "error: " in cafe.refused("dead", "edit", cafe.malformed, "--editor")
    assert cafe.messages() == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "give --set, --body or --body-file"),
        (["--set", "a=1", "--body", "{}"], "give one of"),
        (["--editor", "--body", "{}"], "give one of"),
        (["--body", "{}", "--body-file", "x"], "given twice"),
        (["--body-file", "missing"], "cannot be read"),
        (["--set", "drink"], "is not like name=value"),
        (["--set", "=x"], "is not like name=value"),
    ],
)
def test_edit_explains_a_wrong_command_line(cafe: Cafe, arguments: list[str], problem: str) -> None:
    """Exit code 2; without a terminal no editor is opened by surprise."""
    assert problem in cafe.run("dead", "edit", cafe.malformed, *arguments, code=2).stderr


def test_a_settled_letter_is_not_edited(cafe: Cafe) -> None:
    """What was redriven is said to be."""
    cafe.run("dead", "redrive", cafe.malformed)
    assert "is redriven" in cafe.refused("dead", "edit", cafe.malformed, "--set", "drink=mocha")


# Redriving and discarding


def test_redrive_sends_letters_back_as_they_are(cafe: Cafe) -> None:
    """Each under its own id; the others stay."""
    done = cafe.json("dead", "redrive", cafe.bomb, cafe.malformed, cafe.bomb)
    assert {one["id"] for one in done} == {cafe.bomb, cafe.malformed}
    assert {(one.id, one.body) for one in cafe.messages()} == {(cafe.bomb, BOMB), (cafe.malformed, MALFORMED)}
    assert cafe.dead() == {cafe.hostile}


def test_redrive_all(cafe: Cafe) -> None:
    """Of one queue or of all; nothing left to do is said, and is no failure."""
    assert len(cafe.json("dead", "redrive", "--all", "--queue", "orders")) == 3
    assert cafe.dead() == set()
    result = cafe.run("dead", "redrive", "--all")
    assert (result.stdout, result.stderr) == ("", "no dead letters to redrive\n")


def test_redrive_dry_run_foresees_the_next_death(cafe: Cafe) -> None:
    """It says which letters would not fit again, and moves nothing."""
    foreseen = {one["id"]: one["dead_again"] for one in cafe.json("dead", "redrive", "--all", "--dry-run", app=True)}
    assert foreseen[cafe.bomb] is None
    assert "drink" in foreseen[cafe.malformed]
    assert "would be dead again" in cafe.run("dead", "redrive", cafe.malformed, "--dry-run").stdout
    assert cafe.messages() == []
    assert cafe.dead() == {cafe.malformed, cafe.hostile, cafe.bomb}


def test_redrive_goes_on_after_a_refusal(cafe: Cafe) -> None:
    """Each refusal is a line, the rest is done, and the exit code says that not all was."""
    cafe.run("dead", "redrive", cafe.malformed)
    result = cafe.run("dead", "redrive", cafe.malformed, cafe.bomb, code=1)
    first, last = result.stderr.splitlines()
    assert cafe.malformed in first
    assert "1 of 2 letters" in last
    assert cafe.dead() == {cafe.hostile}
    assert "is redriven" in cafe.refused("dead", "redrive", cafe.malformed)
    assert "is redriven" in cafe.refused("dead", "redrive", cafe.malformed, "--dry-run")


def test_a_letter_that_is_gone_is_said_to_be(cafe: Cafe) -> None:
    """Somebody took it out of the queue by other means: nothing is sent, and the catalogue is put right."""

    async def purge(operations: object) -> None:
        await operations._broker.purge("orders-dead")  # type: ignore[attr-defined]

    cafe.ask(purge)
    assert "is not dead any more" in cafe.refused("dead", "redrive", cafe.bomb)
    assert cafe.dead() == {cafe.malformed, cafe.hostile}


@pytest.mark.parametrize("command", ["redrive", "discard"])
def test_letters_have_to_be_named(cafe: Cafe, command: str) -> None:
    """Neither ids nor --all, or both: exit code 2, nothing is touched."""
    for arguments in ([], [cafe.bomb, "--all"], ["--queue", "orders"]):
        assert "ids or --all" in cafe.run("dead", command, *arguments, code=2).stderr
    assert len(cafe.dead()) == 3


def test_discard_needs_a_yes(cafe: Cafe) -> None:
    """Without a terminal it has to be said on the command line."""
    line = cafe.refused("dead", "discard", cafe.bomb)
    assert "discarding 1 letter" in line
    assert "--yes" in line
    assert len(cafe.dead()) == 3
    assert cafe.json("dead", "discard", cafe.bomb, "--yes") == [
        {"action": "discarded", "id": cafe.bomb, "queue": "orders"}
    ]
    assert cafe.dead() == {cafe.malformed, cafe.hostile}
    assert len(cafe.messages("orders-dead")) == 2


def test_discard_all(cafe: Cafe) -> None:
    """They are gone from the queue and kept in the catalogue."""
    assert len(cafe.json("dead", "discard", "--all", "--queue", "orders", "--yes")) == 3
    assert cafe.messages("orders-dead") == []
    assert {one["state"] for one in cafe.json("dead", "ls", "--state", "all")} == {"discarded"}
    assert cafe.run("dead", "discard", "--all").stderr == "no dead letters to discard\n"


def test_discard_dry_run_discards_nothing(cafe: Cafe) -> None:
    """It needs no yes either."""
    assert len(cafe.json("dead", "discard", "--all", "--dry-run")) == 3
    assert len(cafe.dead()) == 3
    cafe.run("dead", "redrive", cafe.bomb)
    assert "is redriven" in cafe.refused("dead", "discard", cafe.bomb, "--dry-run")


# The catalogue


def test_intake_gives_letters_their_entries(cafe: Cafe, any_broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A letter that the catalogue does not know is in it afterwards; an entry without its letter says `gone`.

    On the embedded broker, where nothing goes unseen, it says so when it is asked for.
    """
    monkeypatch.setattr("redrive.intake._ARRIVING_MS", -60_000)  # none of them is too young to be missed

    async def tear_apart(operations: Operations) -> None:
        broker = operations._broker
        (first, second) = await broker.receive("orders-dead", limit=2, lease=30.0)
        unknown = Message(id="unknown", body=b"{}", sent_at_ms=1_700_000_000_000)
        await broker.settle([Forward(delivery=first, queue="orders-dead", message=unknown)])
        await broker.settle([Return(delivery=second)])

    cafe.ask(tear_apart)
    before = cafe.dead()
    (said,) = cafe.json("dead", "intake", "--queue", "orders")
    assert (said["queue"], said["letters"], said["entered"], said["complete"]) == ("orders", 3, 1, True)
    gone = {one["id"] for one in cafe.json("dead", "ls", "--state", "gone")}
    assert said["gone"] == len(gone) == (1 if any_broker == "plain" else 0)
    assert cafe.dead() == (before | {"unknown"}) - gone
    assert "3 letters, 0 of them new" in cafe.run("dead", "intake").stdout


def test_intake_of_an_unknown_queue_is_refused(cafe: Cafe) -> None:
    """With its name."""
    assert "'nowhere" in cafe.refused("dead", "intake", "--queue", "nowhere", code=3)
