"""`redrive saga`."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from redrive import App
from redrive.cli import main
from redrive.loading import load_app
from redrive.operations import Operations
from tests.cli.conftest import Cafe

CODE = """
from pydantic import BaseModel

from redrive import App, Context, Reject, Saga, step

app = App("bakery", broker="sqlite:bakery.db")
ovens = app.dependency("ovens")


class Cake(BaseModel):
    id: str
    kind: str = "plain"


cakes = app.queue("cakes", Cake)


async def refund(ctx: Context[None], paid: str | None, cake: Cake) -> None:
    if cake.kind == "stuck":
        raise Reject("the till \\x1b[2J is locked")


@step(undo=refund)
async def charge(ctx: Context[None], cake: Cake) -> str:
    return ctx.key


@step(needs=[ovens], attempts=2)
async def bake(ctx: Context[None], kind: str) -> str:
    if kind in ("stuck", "burnt"):
        raise Reject('out of "flour"')
    return kind


@cakes.saga(id=lambda cake: cake.id)
async def order(saga: Saga[None], cake: Cake) -> str:
    await saga.run(charge, cake)
    if cake.kind == "bug":
        raise TypeError("a bug")
    if cake.kind == "asked":
        await saga.wait_for("approved")
    return await saga.run(bake, cake.kind)
"""
KINDS = {"1": "plain", "2": "asked", "3": "stuck", "4": "bug", "51": "burnt"}
TARGET = "bakery_of_sagas.py:app"
FIELDS = [
    "queue", "id", "version", "state", "parked_for", "doing", "steps", "began_at_ms", "changed_at_ms", "deadline_ms",
]  # fmt: skip


@pytest.fixture(scope="session")
def bakery_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once, by a real worker: a saga in each of five states."""
    folder = tmp_path_factory.mktemp("bakery")
    (folder / "bakery_of_sagas.py").write_text(CODE)
    asyncio.run(_work(folder))
    return folder


@pytest.fixture
def bakery(bakery_made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cafe:
    """A bakery of one's own."""
    shutil.copytree(bakery_made, tmp_path, dirs_exist_ok=True)
    (tmp_path / "bakery.db").rename(tmp_path / "cafe.db")
    monkeypatch.chdir(tmp_path)
    for name in ("REDRIVE_BROKER", "REDRIVE_APP"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return Cafe(tmp_path, "", "", "", "")


async def _work(folder: Path) -> None:
    app = load_app(f"{folder}/{TARGET}", str(folder))
    async with app:
        await app.queues["cakes"].send_many([{"id": one, "kind": kind} for one, kind in KINDS.items()])
        stop = asyncio.Event()
        working = asyncio.create_task(app.work(stop=stop))
        async with asyncio.timeout(30):
            while not await _settled(app):  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.02)
        stop.set()
        await working


async def _settled(app: App[Any]) -> bool:
    operations = Operations.of(app)
    states = {one.id: one.state async for one in operations.sagas.instances()}
    depth = await operations.queue("cakes")
    wanted = {"1": "completed", "2": "waiting", "3": "stuck", "4": "stuck", "51": "undone"}
    return states == wanted and (depth.ready, depth.in_flight, depth.delayed) == (0, 0, 0)


def state(bakery: Cafe, identity: str) -> str:
    """An instance's state."""
    return str(bakery.json("saga", "show", identity)[0]["state"])


def test_ls_lists_sagas(bakery: Cafe) -> None:
    """By queue and id, with what each does now."""
    header, *lines = bakery.run("saga", "ls").stdout.splitlines()
    assert header.split() == ["ID", "QUEUE", "STATE", "STEPS", "CHANGED", "NOW"]
    assert [line.split()[:4] for line in lines][:2] == [
        ["1", "cakes", "completed", "2"],
        ["2", "cakes", "waiting", "1"],
    ]
    assert lines[1].endswith("waits for signal 'approved'")
    documents = bakery.json("saga", "ls")
    assert [one["id"] for one in documents] == list(KINDS)
    assert list(documents[0]) == FIELDS


def test_ls_chooses_by_state_and_text(bakery: Cafe) -> None:
    """And says where there is more, or nothing."""
    assert [one["id"] for one in bakery.json("saga", "ls", "--state", "stuck")] == ["3", "4"]
    assert [one["id"] for one in bakery.json("saga", "ls", "--text", "FLOUR", "--queue", "cakes")] == ["3", "51"]
    assert "more than 1" in bakery.run("saga", "ls", "--limit", "1").stderr
    assert "no sagas" in bakery.run("saga", "ls", "--state", "parked").stderr
    bakery.refused("saga", "ls", "--queue", "pies", code=3)


def test_ls_counts(bakery: Cafe) -> None:
    """How many are in which state."""
    header, line = bakery.run("saga", "ls", "--counts").stdout.splitlines()
    assert header.split() == ["QUEUE", "RUNNING", "WAITING", "UNDOING", "COMPLETED", "UNDONE", "STUCK", "PARKED"]
    assert line.split() == ["cakes", "0", "1", "0", "1", "1", "2", "0"]
    assert bakery.json("saga", "ls", "--counts")[0]["stuck"] == 2


def test_show_draws_what_happened(bakery: Cafe) -> None:
    """Each step with its bar, in order, then the undos; what strangers wrote cannot reach the terminal."""
    text = bakery.run("saga", "show", "3").stdout
    assert "\x1b" not in text
    before, after = text.index("charge/1 "), text.index("undo charge/1")
    assert before < text.index("bake/1") < after
    assert 'Reject: out of "flour"' in text
    assert r"the till \x1b[2J is locked" in text
    assert "goes on" in text
    assert text.count("█") >= 3


def test_show_as_json_has_everything(bakery: Cafe) -> None:
    """The journal, with names that stay."""
    (found,) = bakery.json("saga", "show", "3")
    assert [*FIELDS, "input", "result"] == list(found)[: len(FIELDS) + 2]
    assert (found["stuck_while"], found["stuck"]["step"]) == ("undoing", "3/charge/1")
    charge, bake = found["steps"]
    assert (charge["key"], charge["state"], charge["undo"]["state"]) == ("3/charge/1", "done", "failed")
    assert (bake["state"], bake["undoable"], bake["undo"]) == ("rejected", False, None)


def test_show_shows_what_it_waits_for_in_its_place(bakery: Cafe) -> None:
    """After the step that came before it."""
    text = bakery.run("saga", "show", "2").stdout
    assert "now " in text
    assert text.index("charge/1") < text.index("wait approved")


def test_an_id_may_be_given_by_its_beginning(bakery: Cafe) -> None:
    """If that says which."""
    assert bakery.json("saga", "show", "5")[0]["id"] == "51"
    assert "`redrive saga ls`" in bakery.refused("saga", "show", "9", code=3)


def test_retry_lets_a_stuck_saga_go_on(bakery: Cafe) -> None:
    """Its letter goes, a wake-up comes; a dry run does neither."""
    (foreseen,) = bakery.json("saga", "retry", "3", "--dry-run")
    assert foreseen["action"] == "would have retried"
    assert (state(bakery, "3"), len(bakery.dead())) == ("stuck", 2)
    (done,) = bakery.json("saga", "retry", "3", "--reason", "unlocked")
    assert (done["action"], done["state"], done["woken"], done["letter"]) == (
        "retried", "undoing", True, foreseen["letter"],
    )  # fmt: skip
    assert len(bakery.messages("cakes")) == len(bakery.dead()) == 1
    assert "unlocked" in bakery.run("saga", "show", "3").stdout


def test_all_that_are_stuck_are_retried(bakery: Cafe) -> None:
    """And what cannot be is refused with its reason, one by one."""
    assert len(bakery.json("saga", "retry", "--all")) == 2
    assert "no sagas are stuck" in bakery.run("saga", "retry", "--all").stderr
    result = bakery.run("saga", "retry", "1", "2", code=1)
    assert "saga '1' is completed" in result.stderr
    assert "2 of 2 sagas were left as they are" in result.stderr
    assert "one of the two" in bakery.run("saga", "retry", code=2).stderr


def test_skip_leaves_an_effect(bakery: Cafe) -> None:
    """And says which; a reason has to be given."""
    assert "--reason" in bakery.run("saga", "skip", "3", "charge", code=2).stderr
    said = bakery.run("saga", "skip", "3", "charge", "--reason", "paid back in cash").stdout
    assert "3/charge/1 stays as it is" in said
    assert state(bakery, "3") == "undoing"
    assert "only an undo can be skipped" in bakery.refused("saga", "skip", "4", "charge", "--reason", "no")


def test_cancel_asks_and_undoes(bakery: Cafe) -> None:
    """Without a terminal it has to be confirmed on the command line."""
    assert "add --yes" in bakery.refused("saga", "cancel", "2")
    assert state(bakery, "2") == "waiting"
    bakery.run("saga", "cancel", "2", "--dry-run")
    assert state(bakery, "2") == "waiting"
    assert "what it did is undone" in bakery.run("saga", "cancel", "2", "--yes", "--reason", "left").stdout
    (found,) = bakery.json("saga", "show", "2")
    assert (found["cancelled"]["note"], found["deeds"][0]["what"]) == ("left", "cancel")
    assert "is completed" in bakery.refused("saga", "cancel", "1", "--yes")


def test_resume_changes_the_input(bakery: Cafe) -> None:
    """Checked against the schema that the worker left, shown as a difference, written down."""
    assert "kind" in bakery.refused("saga", "resume", "4", "--set", "kind=[1]")
    said = bakery.run("saga", "resume", "4", "--set", "kind=plain", "--dry-run").stdout
    assert '+  "kind": "plain"' in said
    assert "against the schema" in said
    assert state(bakery, "4") == "stuck"
    bakery.run("saga", "resume", "4", "--body", "-", given=b'{"id":"4","kind":"plain"}')
    (found,) = bakery.json("saga", "show", "4")
    assert (found["state"], found["input"]["kind"]) == ("running", "plain")
    assert "one of them" in bakery.run("saga", "resume", "4", code=2).stderr


def test_signal_wakes_who_waits(bakery: Cafe) -> None:
    """A value is JSON if it parses as JSON."""
    assert "it is woken" in bakery.run("saga", "signal", "2", "approved", '{"by":"bob"}').stdout
    assert "it is kept" in bakery.run("saga", "signal", "4", "approved", "yes").stdout
    assert "signal approved" in bakery.run("saga", "show", "4").stdout
    bakery.refused("saga", "signal", "1", "approved")


def test_check_passes_the_code_that_made_them(bakery: Cafe) -> None:
    """But for what its own bug has made stuck, and would again."""
    result = _check(bakery)
    assert result.exit_code == 1
    assert result.stdout == "\n4 of cakes: stuck, version 1\n  it would be stuck: TypeError: a bug\n"
    bakery.run("saga", "cancel", "4", "--yes")
    result = _check(bakery)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "this code can continue every saga" in result.stderr


def test_check_finds_what_a_deploy_would_strand(bakery: Cafe) -> None:
    """Exit code 1, and why; the database is as it was."""
    new = CODE.replace("id=lambda cake: cake.id", "id=lambda cake: cake.id, version=2").replace("refund", "pay_back")
    (bakery.folder / "bakery_next.py").write_text(new.replace("(undo=pay_back)", ""))
    before = bakery.json("saga", "ls")
    answer = _check(bakery, "bakery_next.py:app", "--json")
    assert answer.exit_code == 1
    found = {one["id"]: one["problems"] for one in map(json.loads, answer.stdout.splitlines())}
    assert set(found) == {"2", "3", "4"}
    assert "it began with version 1, and the code has [2]" in found["2"]
    assert "step '3/charge/1' had an undo when it was begun, and the code has none any more" in found["3"]
    assert "error: 3 sagas would be stuck with this code" in answer.stderr
    assert bakery.json("saga", "ls") == before


def test_graph_draws_the_steps_of_the_code(bakery: Cafe) -> None:
    """In the order in which the function names them, with their undos and needs."""
    assert bakery.folder == Path.cwd()
    text = CliRunner().invoke(main, ["saga", "graph", TARGET], catch_exceptions=False).stdout
    assert text.startswith("flowchart TD\n    %% cakes, version 1\n")
    for line in (
        'n0["charge<br/>5 attempts of 30 s"]',
        'n1["bake<br/>2 attempts of 30 s<br/>needs ovens"]',
        'n2(["undo: refund<br/>for 86400 s"])',
        "n0 --> n1",
        "n0 -. undo .-> n2",
    ):
        assert f"    {line}\n" in text
    dot = CliRunner().invoke(main, ["saga", "graph", TARGET, "--format", "dot"], catch_exceptions=False).stdout
    assert 'n1 [label="bake\\n2 attempts of 30 s\\nneeds ovens"];' in dot
    assert 'n0 -> n2 [label="undo", style=dashed];' in dot


def test_graph_draws_one_saga_as_it_went(bakery: Cafe) -> None:
    """Steps and waits in their order, the undos backwards, the end; coloured by state, without code."""
    arguments = ["saga", "graph", "--id", "51", *bakery.without_code]
    text = CliRunner().invoke(main, arguments, catch_exceptions=False).stdout
    for line in ('n0["charge/1<br/>done"]', 'n1["bake/1<br/>rejected"]', 'n2(["undo charge/1<br/>done"])', "n2 --> n3"):
        assert f"    {line}\n" in text
    assert "style n1 fill:" in text
    waiting = CliRunner().invoke(main, ["saga", "graph", "--id", "2", *bakery.without_code], catch_exceptions=False)
    assert 'n1["wait approved<br/>waits"]' in waiting.stdout


def _check(bakery: Cafe, target: str = TARGET, *options: str) -> Result:
    return CliRunner().invoke(main, ["saga", "check", target, *bakery.without_code, *options], catch_exceptions=False)
