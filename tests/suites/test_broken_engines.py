"""The tests of the engine are worth what they catch: engines that are broken on purpose, and who has to notice each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from redrive.sqlite.deduplication import Deduplication
from redrive.sqlite.engine import Engine
from redrive.sqlite.lines import Lines
from redrive.sqlite.tenants import Tenants
from tests.sqlite import test_engine_deduplication as deduplication
from tests.sqlite import test_engine_in_flight as in_flight
from tests.sqlite import test_engine_moves as moves
from tests.sqlite import test_engine_order as order
from tests.sqlite import test_engine_queues as queues
from tests.sqlite import test_engine_retention as retention
from tests.sqlite import test_engine_standard as standard
from tests.sqlite import test_engine_tenants as tenants
from tests.suites import broken_engines as broken
from tests.suites.broken_engines import Break, both, method, sql
from tests.suites.embedded import OnFile
from tests.suites.running import fails

Test = str | Callable[[], None]
"""A test of the suite by its name, or one of the engine's own."""


CAUGHT_BY: dict[str, tuple[Break, tuple[Test, ...]]] = {
    # Leases and receipts
    "ignores the lease": (
        sql("engine.receive", "visible_at_ms = ?1", "visible_at_ms = ?1 - ?1"),
        ("test_a_lease_hides_a_message_until_it_ends", standard.test_a_lease_ends_in_its_last_millisecond),
    ),
    "holds a lease for ever": (
        sql("engine.wake", "phase = 2 AND visible_at_ms <= ?2", "phase = 2 AND visible_at_ms < 0"),
        ("test_a_lease_hides_a_message_until_it_ends",),
    ),
    "gives a message one millisecond early": (
        sql("engine.wake", "visible_at_ms <= ?2", "visible_at_ms <= ?2 + 1"),
        (standard.test_a_lease_ends_in_its_last_millisecond, standard.test_a_delay_ends_in_its_last_millisecond),
    ),
    "accepts any receipt": (
        sql("engine.acknowledge", "receipt = ?2", "?2 IS NOT NULL"),
        ("test_a_receipt_is_stale_once_the_message_was_received_again",),
    ),
    "accepts any receipt in a batch": (
        sql("engine.count_held", "WHERE held.value = message.seq || '.' || lower(hex(message.receipt))", ""),
        (standard.test_a_receipt_of_one_message_settles_no_other,),
    ),
    "repeats receipts": (
        sql("engine.receive", "randomblob(16)", "zeroblob(16)"),
        (standard.test_receipts_are_new_and_random_each_time,),
    ),
    "has receipts that can be guessed": (
        broken.guesses_receipts,
        (standard.test_receipts_are_nothing_that_could_be_known,),
    ),
    "keeps the receipt when a message is received again": (
        sql("engine.receive", "randomblob(16)", "coalesce(receipt, randomblob(16))"),
        ("test_a_receipt_is_stale_once_the_message_was_received_again",),
    ),
    "lets whoever returned a message settle it": (
        sql("engine.hand_back", "receipt = NULL, ", ""),
        (standard.test_a_returned_message_is_nobodys,),
    ),
    "counts two for each receive": (
        sql("engine.receive", "receive_count + 1", "receive_count + 2"),
        ("test_a_message_arrives_as_it_was_sent",),
    ),
    "counts no receive": (
        sql("engine.receive", "receive_count = receive_count + 1", "receive_count = max(1, receive_count)"),
        ("test_a_lease_hides_a_message_until_it_ends", "test_what_is_received_too_often_is_moved"),
    ),
    "counts what is handed back uncounted": (
        sql("engine.hand_back", "receive_count - ?6", "receive_count"),
        (standard.test_an_uncounted_return_takes_back_one_receive,),
    ),
    "gives up one receive too early": (
        sql("queues.queue", "max_receives", "max_receives - 1 AS max_receives"),
        ("test_what_is_received_too_often_is_moved", "test_a_line_gives_up_after_exactly_as_many_receives"),
    ),
    "gives up one receive too late": (
        sql("queues.queue", "max_receives", "max_receives + 1 AS max_receives"),
        ("test_what_is_received_too_often_is_moved", "test_a_line_gives_up_after_exactly_as_many_receives"),
    ),
    "knows no limit of what is in flight": (
        method(Engine, "_room", broken.any_room),
        (lambda: in_flight.test_nothing_more_is_given_at_the_limit("plain"),),
    ),
    # Order
    "reorders": (
        sql("engine.receive", "ORDER BY round, visible_at_ms, seq", "ORDER BY round, visible_at_ms DESC, seq DESC"),
        (tenants.test_without_groups_what_is_ready_longest_comes_first,),
    ),
    "reorders within a group": (
        sql("lines.front", "ORDER BY seq", "ORDER BY seq DESC"),
        ("test_several_of_a_group_come_in_order", "test_what_its_holder_lost_comes_before_what_is_behind_it"),
    ),
    "puts what was returned behind": (
        sql("lines.renew", "ORDER BY seq LIMIT 1", "ORDER BY visible_at_ms, seq DESC LIMIT 1"),
        ("test_a_returned_message_keeps_its_place",),
    ),
    "overtakes what is delayed": (
        sql("lines.renew", "ORDER BY seq LIMIT 1", "ORDER BY visible_at_ms, seq LIMIT 1"),
        ("test_a_delayed_return_holds_its_group",),
    ),
    "locks no group": (
        sql("lines.lock", "free_at_ms = ?3", "free_at_ms = free_at_ms + 0 * ?3"),
        ("test_a_group_is_locked_while_one_of_it_is_in_flight",),
    ),
    "locks all groups": (
        sql("lines.lock", "AND group_id IN (SELECT value FROM json_each(?2))", "AND ?2 IS NOT NULL"),
        ("test_another_group_is_not_locked",),
    ),
    "lets go of a lock too early": (
        sql("lines.renew", "leased.phase = 4", "leased.phase = 9"),
        ("test_one_that_is_returned_waits_for_those_in_flight",),
    ),
    "never lets go of a lock": (
        method(Lines, "renew", broken.never_locked),
        ("test_acknowledging_ends_the_lock", "test_returning_ends_the_lock", "test_forwarding_ends_the_lock"),
    ),
    "forgets that a lock was extended": (
        method(Engine, "_renew_lines", broken.never_locked),
        ("test_an_extended_lease_keeps_the_lock",),
    ),
    "reuses numbers": (
        broken.reuses_numbers,
        (order.test_numbers_are_never_used_again,),
    ),
    "is unfair": (
        method(Tenants, "round", broken.the_same_round),
        ("test_a_burst_of_one_group_does_not_make_another_wait", tenants.test_tenants_take_turns),
    ),
    "gives arrears to who was away": (
        sql("tenants.next_round", "max(round + 1, ?3)", "round + 1"),
        (tenants.test_who_was_away_begins_at_the_round_being_received,),
    ),
    # Durability
    "loses what it answered in a crash": (
        broken.answers_before_it_writes,
        ("test_what_was_sent_is_there_after_a_crash",),
    ),
    "copies instead of moving": (
        sql("engine.acknowledge", "DELETE FROM message", "UPDATE message SET receipt = receipt"),
        ("test_a_forward_moves_the_message", "test_an_acknowledged_message_is_gone"),
    ),
    "does not look at checksums": (
        both(
            lambda patch: patch.setattr("redrive.sqlite.rows.is_whole", broken.always_whole),
            lambda patch: patch.setattr("redrive.sqlite.engine.is_whole", broken.always_whole),
        ),
        (lambda: standard.test_what_is_not_what_was_sent_is_never_handed_out("body = x'00'"),),
    ),
    "leaves what is delayed in a purge": (
        sql("queues.delete_messages", "WHERE queue = ?", "WHERE queue = ? AND phase <> 1"),
        ("test_purge_leaves_nothing", queues.test_a_purge_tells_how_many_there_were),
    ),
    "leaves locks in a purge": (
        sql("queues.delete_lines", "WHERE queue = ?", "WHERE queue = ? AND 0"),
        ("test_a_purge_ends_all_locks",),
    ),
    "ignores retention": (
        sql("engine.expired", "expires_at_ms <= ?1", "expires_at_ms <= ?1 AND 0"),
        ("test_nothing_is_kept_beyond_its_retention",),
    ),
    "makes dead letters young again": (
        sql("engine.expires", "expires_at_ms", "NULL"),
        (retention.test_a_dead_letter_may_be_over_the_moment_it_is_one,),
    ),
    # Deduplication
    "remembers nothing": (
        sql("deduplication.sent_before", "expires_at_ms > ?", "expires_at_ms > ? AND 0"),
        ("test_the_same_id_is_sent_once", "test_the_same_content_is_sent_once"),
    ),
    "forgets ids when it is opened anew": (
        broken.remembers_in_memory,
        ("test_duplicates_are_known_after_a_restart", deduplication.test_ids_survive_a_crash_and_a_purge),
    ),
    "never forgets an id": (
        both(
            sql("deduplication.sent_before", "expires_at_ms > ?", "?3 IS NOT NULL"),
            sql("deduplication.forget_sent", "expires_at_ms <= ?", "expires_at_ms <= ? AND 0"),
        ),
        ("test_after_five_minutes_an_id_is_new",),
    ),
    "forgets an id with its message": (
        sql(
            "deduplication.sent_before",
            "expires_at_ms > ?",
            "expires_at_ms > ? AND EXISTS (SELECT 1 FROM message WHERE message.seq = sequence)",
        ),
        ("test_a_handled_message_is_still_remembered",),
    ),
    "answers a duplicate with its own id": (
        method(Deduplication, "sent_before", broken.its_own_id),
        ("test_the_same_id_is_sent_once",),
    ),
    "forgets attempts to receive": (
        method(Deduplication, "received_before", broken.looks_at_nothing),
        (deduplication.test_an_attempt_that_is_repeated_gets_the_same_messages_again,),
    ),
    # Moves
    "counts twice in a move": (
        sql("move_tasks.count", "moved + ?2", "moved + ?2 + ?2"),
        (moves.test_a_task_moves_as_many_as_there_were, moves.test_a_crash_neither_loses_nor_doubles_a_step),
    ),
    "goes on with a move that was cancelled": (
        sql("move_tasks.cancel", "status = 'CANCELLED'", "status = 'RUNNING'"),
        (moves.test_a_cancelled_task_moves_nothing_more,),
    ),
    "tears a step of a move in a crash": (
        broken.moves_and_counts_apart,
        (moves.test_a_crash_neither_loses_nor_doubles_a_step,),
    ),
    "moves as fast as it can": (
        lambda patch: patch.setattr("redrive.sqlite.move_tasks._due", broken.at_once),
        (moves.test_a_rate_is_kept,),
    ),
    "moves what it has moved before": (
        sql("move_tasks.start", "'RUNNING', ?4", "'RUNNING', ?4 + 1000"),
        (moves.test_a_task_moves_as_many_as_there_were,),
    ),
    "moves two tasks of one source": (
        sql("move_tasks.running_for", "status = 'RUNNING'", "status = 'NONE'"),
        (moves.test_one_task_is_active_for_a_source,),
    ),
    "charges what it could not move": (
        method(Engine, "leave_row", broken.never_locked),
        (moves.test_a_message_that_died_nowhere_fails_a_task_without_a_destination,),
    ),
}


@pytest.mark.parametrize("fault", CAUGHT_BY)
async def test_somebody_notices_an_engine_that(fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each of the tests that are named for it fails, and none of them when nothing is broken."""
    breaks, tests = CAUGHT_BY[fault]
    assert [test for test in tests if await _fails(test, tmp_path / "whole")] == []
    breaks(monkeypatch)
    assert [test for test in tests if not await _fails(test, tmp_path / "broken")] == []


async def _fails(test: Test, folder: Path) -> bool:
    if callable(test):
        return _raises(test)
    path = folder / test
    path.mkdir(parents=True)
    suite = OnFile()
    suite.deadline = 0.5
    broker = suite.open(path)
    failed = await fails(lambda: getattr(suite, test)(broker))
    await suite.close()
    return failed


def _raises(test: Callable[[], None]) -> bool:
    assert not inspect.signature(test).parameters, f"{test.__name__} wants arguments"
    try:
        test()
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever it is, the test did not pass
        return True
    return False
