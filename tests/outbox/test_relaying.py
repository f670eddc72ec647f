"""The relay sends what is committed, in order for each line, and forgets what it sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tools.services import Postgres, postgres

from redrive import App
from redrive.errors import BrokerUnavailable, DeclarationError, LimitExceeded, QueueNotFound, StoreUnavailable
from redrive.outbox.addresses import source
from redrive.outbox.relaying import relays
from tests.outbox.databases import Database
from tests.outbox.relays import Shop, moody, relay_of
from tests.runtime.fakes import opened, until, within, working


def bodies(messages: list[Any]) -> list[int]:
    """The numbers in them."""
    return [json.loads(one.body)["n"] for one in messages]


async def test_what_is_committed_is_sent_and_forgotten(database: Database, connection: Any) -> None:
    """With the id that the outbox gave, its attributes and the time at which it was written."""
    shop = Shop()
    async with shop.app.test() as t:
        ids = [shop.app.outbox(connection).send(shop.orders, {"n": 0}, attributes={"trace": "7"})]
        ids += shop.app.outbox(connection).send_many(shop.orders, [{"n": 1}, {"n": 2}])
        t.clock.advance(5)
        relay = relay_of(t, database.address)
        assert await relay.relay() == 0
        connection.commit()
        assert await relay.relay() == 3
        sent = t.sent(shop.orders)
        assert [one.id for one in sent] == ids
        assert bodies(sent) == [0, 1, 2]
        assert sent[0].attributes == {"trace": "7"}
        assert t.clock.now_ms() - sent[0].sent_at_ms == 5_000
        assert database.count() == 0
        await relay.resign()


async def test_what_is_rolled_back_is_never_sent(database: Database, connection: Any) -> None:
    """Nor is the change that it belongs to made."""
    shop = Shop()
    async with shop.app.test() as t:
        relay = relay_of(t, database.address)
        connection.execute(database.place(1))
        shop.app.outbox(connection).send(shop.orders, {"n": 1})
        connection.rollback()
        connection.execute(database.place(2))
        shop.app.outbox(connection).send(shop.orders, {"n": 2})
        connection.commit()
        await relay.relay()
        assert bodies(t.sent(shop.orders)) == [2]
        assert database.placed() == {2}
        await relay.resign()


async def test_a_line_is_sent_in_order(database: Database, connection: Any) -> None:
    """Each group of a FIFO queue, many times over what one call of the broker takes."""
    shop = Shop()
    async with shop.app.test() as t:
        for number in range(60):
            shop.app.outbox(connection).send(shop.lines, {"n": number}, group=str(number % 3))
        connection.commit()
        relay = relay_of(t, database.address)
        assert await relay.relay() == 60
        for group in range(3):
            assert bodies([one for one in t.sent(shop.lines) if one.group == str(group)]) == list(range(group, 60, 3))
        await relay.resign()


async def test_what_is_committed_late_is_sent_late(postgresql: Database) -> None:
    """Ids are given when a row is written, not when it is committed: a lower one that comes later is not skipped."""
    shop = Shop()
    async with shop.app.test() as t:
        relay = relay_of(t, postgresql.address)
        with contextlib.closing(postgresql.connect()) as first, contextlib.closing(postgresql.connect()) as second:
            shop.app.outbox(first).send(shop.orders, {"n": 1})
            shop.app.outbox(second).send(shop.orders, {"n": 2})
            second.commit()
            assert await relay.relay() == 1
            first.commit()
            assert await relay.relay() == 1
        assert bodies(t.sent(shop.orders)) == [2, 1]
        await relay.resign()


async def test_a_delay_counts_from_the_write(sqlite_file: Database) -> None:
    """What the relay was late by is no delay of the message; beyond the broker's longest, the timekeeper has it."""
    shop = Shop()
    async with shop.app.test() as t:
        with contextlib.closing(sqlite_file.connect()) as connection:
            shop.app.outbox(connection).send(shop.orders, {"n": 1}, delay=60)
            shop.app.outbox(connection).send(shop.orders, {"n": 2}, delay=7200)
            connection.commit()
        t.clock.advance(50)
        relay = relay_of(t, sqlite_file.address)
        assert await relay.relay() == 2
        assert bodies(t.sent(shop.orders)) == [1]
        assert (await t.runtime.broker.depth("orders")).delayed == 1
        t.clock.advance(10)
        assert (await t.runtime.broker.depth("orders")).ready == 1
        await t.advance(7_200)
        assert bodies(t.sent(shop.orders)) == [1, 2]
        await relay.resign()


async def test_applications_in_one_database_do_not_send_for_one_another(sqlite_file: Database) -> None:
    """Each relay sends what its own application wrote."""
    shop, other = Shop(), App("other")
    letters = other.queue("orders", dict[str, Any])
    async with shop.app.test() as t:
        with contextlib.closing(sqlite_file.connect()) as connection:
            other.outbox(connection).send(letters, {"n": 1})
            shop.app.outbox(connection).send(shop.orders, {"n": 2})
            connection.commit()
        relay = relay_of(t, sqlite_file.address)
        assert await relay.relay() == 1
        assert bodies(t.sent(shop.orders)) == [2]
        assert sqlite_file.count() == 1
        await relay.resign()


# Troubles


async def test_a_crash_before_the_row_is_forgotten_sends_the_same_message(sqlite_file: Database) -> None:
    """The same id; on a FIFO queue it is sent once."""
    shop = Shop()
    async with shop.app.test() as t:
        with contextlib.closing(sqlite_file.connect()) as connection:
            shop.app.outbox(connection).send(shop.orders, {"n": 1})
            shop.app.outbox(connection).send(shop.lines, {"n": 2}, group="g")
            connection.commit()
        relay = relay_of(t, sqlite_file.address)

        async def killed(ids: Any) -> None:  # noqa: ARG001 - as the real one
            raise KeyboardInterrupt

        delete = relay._source.delete
        for _ in range(2):
            relay._source.delete = killed  # type: ignore[method-assign]
            with pytest.raises(KeyboardInterrupt):
                await relay.relay()
        relay._source.delete = delete  # type: ignore[method-assign]
        await relay.relay()
        assert len({one.id for one in t.sent(shop.orders)}) == 1
        assert len(t.sent(shop.lines)) == 1
        assert sqlite_file.count() == 0
        await relay.resign()


async def test_one_line_s_trouble_holds_up_that_line_alone(database: Database, connection: Any) -> None:
    """The others go on, also those behind it; it is tried again later, and sent in order then."""
    shop = Shop()
    with moody(shop.app) as (harness, broker):
        async with harness as t:
            broker().refuses = lambda one: LimitExceeded("x", 1, "y") if one.message.group == "bad" else None
            for number in range(700):
                shop.app.outbox(connection).send(shop.lines, {"n": number}, group="bad" if number < 600 else "good")
            connection.commit()
            relay = relay_of(t, database.address)
            await relay.relay()
            await relay.relay()
            assert bodies(t.sent(shop.lines)) == list(range(600, 700))
            assert database.count() == 600
            broker().refuses = lambda _one: None
            t.clock.advance(30)
            while await relay.relay():
                pass
            assert bodies(t.sent(shop.lines))[100:] == list(range(600))
            await relay.resign()


async def test_a_message_that_was_refused_keeps_its_place(sqlite_file: Database) -> None:
    """Of one group nothing overtakes what was refused for a moment."""
    shop = Shop()
    refusals = iter([BrokerUnavailable("test", "throttled"), None, BrokerUnavailable("test", "throttled")])
    with moody(shop.app) as (harness, broker):
        async with harness as t:
            broker().refuses = lambda one: next(refusals, None) if one.message.group == "a" else None
            with contextlib.closing(sqlite_file.connect()) as connection:
                for number in range(12):
                    shop.app.outbox(connection).send(shop.lines, {"n": number}, group="ab"[number % 2])
                connection.commit()
            relay = relay_of(t, sqlite_file.address)
            for _ in range(5):
                await relay.relay()
                t.clock.advance(30)
            for group, numbers in (("a", list(range(0, 12, 2))), ("b", list(range(1, 12, 2)))):
                assert bodies([one for one in t.sent(shop.lines) if one.group == group]) == numbers
            await relay.resign()


async def test_a_queue_that_is_not_there_holds_up_that_queue_alone(
    sqlite_file: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, however often it is tried; when the queue is there, its messages are sent, and that is said."""
    shop = Shop()
    with moody(shop.app) as (harness, broker), caplog.at_level(logging.INFO, "redrive.outbox"):
        async with harness as t:
            broker().refuses_call = lambda queue: QueueNotFound(queue) if queue == "orders" else None
            with contextlib.closing(sqlite_file.connect()) as connection:
                shop.app.outbox(connection).send_many(shop.orders, [{"n": number} for number in range(50)])
                shop.app.outbox(connection).send(shop.lines, {"n": 50}, group="g")
                connection.commit()
            relay = relay_of(t, sqlite_file.address)
            for _ in range(4):
                await relay.relay()
                t.clock.advance(30)
            assert bodies(t.sent(shop.lines)) == [50]
            assert len([queue for queue, _ in broker().calls if queue == "orders"]) == 4
            assert [one.levelname for one in caplog.records] == ["ERROR"]
            assert "queue 'orders' does not exist" in caplog.text
            broker().refuses_call = lambda _queue: None
            await relay.relay()
            assert len(t.sent(shop.orders)) == 50
            assert "'orders' in the outbox" in caplog.records[-1].getMessage()
            assert caplog.records[-1].levelname == "INFO"
            await relay.resign()


@pytest.mark.parametrize("document", ["no JSON", "{}", '{"v": 2}', "[]"])
async def test_a_row_that_cannot_be_read_stays_and_holds_up_nobody(sqlite_file: Database, document: str) -> None:
    """A later version wrote it, or somebody's hand did."""
    shop = Shop()
    async with shop.app.test() as t:
        with contextlib.closing(sqlite_file.connect()) as connection:
            row = ("shop", "orders", "odd", "odd", document)
            connection.execute(
                "INSERT INTO redrive_outbox (app, queue, line, message_id, document) VALUES (?, ?, ?, ?, ?)", row
            )
            shop.app.outbox(connection).send(shop.orders, {"n": 1})
            connection.commit()
        relay = relay_of(t, sqlite_file.address)
        assert await relay.relay() == 1
        assert sqlite_file.count() == 1
        await relay.resign()


async def test_much_is_read_in_bounded_pieces(database: Database, connection: Any) -> None:
    """At most 8 MiB and a message, and 500 rows: an outbox that nobody read for a day fits into memory."""
    shop = Shop()
    async with shop.app.test() as t:
        shop.app.outbox(connection).send_many(shop.orders, [{"n": n, "x": "x" * 900_000} for n in range(12)])
        shop.app.outbox(connection).send_many(shop.orders, [{"n": n} for n in range(12, 600)])
        connection.commit()
        relay = relay_of(t, database.address)
        assert await relay.relay() == 10
        assert await relay.relay() == 500
        assert await relay.relay() == 90
        assert sorted(bodies(t.sent(shop.orders))) == list(range(600))
        await relay.resign()


async def test_a_missing_table_is_said_with_what_makes_it(tmp_path: Path, server: Postgres) -> None:
    """And the relay waits for it."""
    shop = Shop()
    path = tmp_path / "bare.db"
    sqlite3.connect(path).close()
    async with shop.app.test() as t:
        for address, dialect in ((f"sqlite:{path}", "sqlite"), (server.url, "postgresql")):
            relay = relay_of(t, address)
            with pytest.raises(StoreUnavailable, match=f"`redrive outbox ddl {dialect}`") as raised:
                await relay.relay()
            assert "password" not in str(raised.value)
            await relay.resign()


async def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A relay only reads what an application made."""
    async with Shop().app.test() as t:
        relay = relay_of(t, f"sqlite:{tmp_path / 'none.db'}")
        with pytest.raises(StoreUnavailable, match="unable to open"):
            await relay.relay()
        assert _is_empty(tmp_path)
        await relay.resign()


async def test_a_server_that_went_away_is_found_again() -> None:
    """What is under way fails; the next call connects anew, and nothing is lost."""
    shop = Shop()
    with postgres(durable=False) as server:
        address = server.url
        with psycopg.connect(address) as connection:
            for statement in shop_ddl():
                connection.execute(statement)
            shop.app.outbox(connection).send(shop.orders, {"n": 1})
        async with shop.app.test() as t:
            relay = relay_of(t, address)
            waiting = asyncio.create_task(relay._source.changed(30))
            await asyncio.sleep(0)
            server.kill()
            with pytest.raises(StoreUnavailable):
                await within(waiting)
            with pytest.raises(StoreUnavailable):
                await relay.relay()
            server.start()
            assert await relay.relay() == 1
            await relay.resign()


def shop_ddl() -> list[str]:
    from redrive.outbox import ddl  # noqa: PLC0415 - here alone

    return [one for one in ddl("postgresql").split(";") if one.strip()]


# With workers


@pytest.mark.e2e
async def test_a_worker_is_woken_by_a_commit(
    database: Database, connection: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before it would look by itself; two workers on one outbox send each message once."""
    shop, got = Shop(), []
    waits: list[float] = []

    @shop.orders.consumer()
    async def handle(order: dict[str, Any]) -> None:
        got.append(order["n"])

    shop.app.relay(lambda: database.address)
    (folder := tmp_path / "broker").mkdir()
    loop = asyncio.get_running_loop()
    async with opened(shop.app, folder, monkeypatch), working(shop.app), working(shop.app):
        shop.app.outbox(connection).send(shop.orders, {"n": -1})
        connection.commit()
        await until(lambda: got == [-1], 20)
        for number in range(10):
            shop.app.outbox(connection).send(shop.orders, {"n": number})
            connection.commit()
            began = loop.time()
            await until(partial(_ends_with, got, number))
            waits.append(loop.time() - began)
    assert got == list(range(-1, 10))
    assert sorted(waits)[5] < 0.5


async def test_only_the_leader_reads(sqlite_file: Database) -> None:
    """Another one's relay keeps no connection open; it takes over when the leader resigns."""
    shop = Shop()
    async with shop.app.test() as t:
        first, second = (relay_of(t, sqlite_file.address, leads=False) for _ in range(2))
        first._source.changed = second._source.changed = _at_once  # type: ignore[assignment, method-assign]
        with contextlib.closing(sqlite_file.connect()) as connection:
            shop.app.outbox(connection).send(shop.orders, {"n": 1})
            connection.commit()
            await first.step()
            await second.step()
            assert bodies(t.sent(shop.orders)) == [1]
            assert second._source._thread is None  # type: ignore[attr-defined]
            await first.resign()
            shop.app.outbox(connection).send(shop.orders, {"n": 2})
            connection.commit()
            await second.step()
            assert bodies(t.sent(shop.orders)) == [1, 2]
            await second.resign()


def _ends_with(got: list[int], number: int) -> bool:
    return got[-1] == number


def _is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


async def _at_once(_wait: float) -> None:
    return


@pytest.mark.parametrize("address", ["mysql://localhost/shop", "shop.db", ""])
def test_an_address_of_something_else_is_refused(address: str) -> None:
    """With what can be read."""
    with pytest.raises(DeclarationError, match="use sqlite:FILE or postgresql://"):
        source(address, Path())


def test_addresses_as_sqlalchemy_writes_them_are_understood(tmp_path: Path) -> None:
    """And none of them shows who logs in with which password."""
    assert source("sqlite:///shop.db", tmp_path).address == f"sqlite:{tmp_path / 'shop.db'}"
    assert source("sqlite+aiosqlite:////var/shop.db", tmp_path).address == "sqlite:/var/shop.db"
    found = source("postgresql+asyncpg://me:secret@db.example:5433/shop?application_name=secret", tmp_path)
    assert found.address == "postgresql://db.example:5433/shop"


async def test_the_broker_s_own_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two copies of SQLite in one process would take each other's locks away."""
    shop = Shop()
    async with opened(shop.app, tmp_path, monkeypatch):
        with pytest.raises(DeclarationError, match="the broker's file"):
            relays(shop.app.runtime, [f"sqlite:{tmp_path / 'test.db'}"], tmp_path)
