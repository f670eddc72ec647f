"""Standard queues in the engine: leases and delays to the millisecond, ids, settlements, and looking at them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest

from redrive.broker import Acknowledge, Depth, Forward, Outgoing, QueueSpec, Return, Settlement
from redrive.errors import LimitExceeded, QueueNotFound, StaleReceipt
from redrive.message import MAX_BODY, NOTHING, Delivery, Message, Notes
from tests.sqlite.driven import LEASE, bodies_of, driven

PLAIN = QueueSpec(name="plain")
OTHER = QueueSpec(name="other")
DEAD = QueueSpec(name="dead")
LIMITED = QueueSpec(name="limited", dead_letter_queue="dead", max_receives=2)
NOTED = Notes(attempts=1)


# Leases and delays


def test_a_lease_ends_in_its_last_millisecond() -> None:
    """Not before it."""
    with driven(PLAIN) as engine:
        engine.send("plain", "x")
        engine.take("plain", lease=1.0)
        assert engine.next_in("plain") == 1
        engine.let_pass(0.999)
        assert engine.take("plain") == []
        engine.let_pass(0.001)
        assert [one.receive_count for one in engine.take("plain")] == [2]


def test_a_lease_of_nothing_is_one_millisecond() -> None:
    """Or a message could be given twice in one answer."""
    with driven(PLAIN) as engine:
        engine.send("plain", "x")
        assert engine.bodies("plain") == ["x"]
        engine.take("plain", lease=0.0)
        assert engine.take("plain", lease=0.0) == []


@pytest.mark.parametrize("lease", [-0.001, 43_200.001])
def test_a_lease_that_cannot_be_is_refused(lease: float) -> None:
    """By name; twelve hours are fine. Nothing is received."""
    with driven(PLAIN) as engine:
        engine.send("plain", "x")
        with pytest.raises(LimitExceeded, match="lease"):
            engine.take("plain", lease=lease)
        (taken,) = engine.take("plain", lease=43_200.0)
        assert taken.receive_count == 1
        for wrong in (0.0, lease):
            with pytest.raises(LimitExceeded, match="lease"):
                engine.extend(taken, lease=wrong)
        assert engine.next_in("plain") == 43_200
        assert engine.extend(taken, lease=43_200.0) == [None]


def test_a_delay_ends_in_its_last_millisecond() -> None:
    """Of a send, of a queue, of a return and of a forward."""
    slow = QueueSpec(name="slow", delay=1.0)
    with driven(PLAIN, OTHER, slow) as engine:
        engine.send("plain", "sent", delay=1.0)
        engine.send("slow", "slow")
        engine.send("other", "returned", "forwarded")
        returned, forwarded = engine.take("other")
        engine.hand_back(returned, delay=1.0)
        engine.forward(forwarded, "plain", delay=1.0)
        assert [engine.next_in(queue) for queue in ("plain", "slow", "other")] == [1, 1, 1]
        engine.let_pass(0.999)
        assert [engine.take(queue) for queue in ("plain", "slow", "other")] == [[], [], []]
        engine.let_pass(0.001)
        assert engine.bodies("plain") == ["sent", "forwarded"]
        assert engine.bodies("slow") == ["slow"]
        assert engine.bodies("other") == ["returned"]


def test_a_delay_of_its_own_goes_before_that_of_the_queue() -> None:
    """Longer or shorter."""
    slow = QueueSpec(name="slow", delay=10.0)
    with driven(slow) as engine:
        engine.send("slow", "sooner", delay=1.0)
        engine.send("slow", "later", delay=20.0)
        engine.send("slow", "slow")
        found = []
        for _ in range(3):
            engine.let_pass(engine.next_in("slow") or 0)
            found += engine.drain("slow")
        assert found == ["sooner", "slow", "later"]


@pytest.mark.parametrize("delay", [-0.001, 900.001, float("nan")])
def test_a_delay_that_cannot_be_is_refused(delay: float) -> None:
    """From 0 to 900 seconds, sent or forwarded; a message that cannot be forwarded stays with its holder."""
    with driven(PLAIN, OTHER) as engine:
        (refused,) = engine.send("plain", "x", delay=delay)
        assert isinstance(refused, LimitExceeded)
        assert str(refused).startswith("delay")
        engine.send("other", "y", delay=900.0)
        engine.let_pass(900)
        (taken,) = engine.take("other")
        results = engine.settle(Forward(delivery=taken, queue="plain", message=taken.message, delay=delay))
        assert [type(one) for one in results] == [LimitExceeded]
        assert engine.total("plain") == 0
        engine.acknowledge(taken)


def test_the_delay_of_a_return_is_kept_within_what_a_lease_can_be() -> None:
    """Twelve hours at most, and never less than nothing."""
    with driven(PLAIN) as engine:
        engine.send("plain", "x", "y")
        longer, sooner = engine.take("plain")
        engine.hand_back(longer, delay=1e9)
        engine.hand_back(sooner, delay=-5.0)
        assert engine.bodies("plain") == ["y"]
        engine.let_pass(43_199.999)
        assert engine.bodies("plain") == ["y"]
        engine.let_pass(0.001)
        assert "x" in engine.bodies("plain")


def test_a_returned_message_that_is_delayed_is_delayed_and_not_in_flight() -> None:
    """Each is counted as what it is, from its time on as ready."""
    with driven(PLAIN) as engine:
        engine.send("plain", "ready", "held", "returned")
        engine.send("plain", "late", delay=LEASE)
        first, _, third = engine.take("plain", 3)
        engine.hand_back(third, delay=LEASE)
        engine.hand_back(first)
        assert engine.depth("plain") == Depth(ready=1, in_flight=1, delayed=2)
        engine.let_pass(LEASE - 0.001)
        assert engine.depth("plain") == Depth(ready=1, in_flight=1, delayed=2)
        engine.let_pass(0.001)
        assert engine.depth("plain") == Depth(ready=4)


def test_an_extension_counts_from_now() -> None:
    """Longer or shorter than what was left; what nobody took since its lease ended is its holder's again."""
    with driven(PLAIN) as engine:
        engine.send("plain", "x")
        (taken,) = engine.take("plain", lease=10.0)
        engine.let_pass(5)
        assert engine.extend(taken, lease=1.0) == [None]
        assert engine.next_in("plain") == 1
        engine.let_pass(2)
        assert engine.extend(taken, lease=7.0) == [None]
        assert engine.take("plain") == []
        engine.let_pass(6.999)
        assert engine.take("plain") == []
        engine.let_pass(0.001)
        assert engine.bodies("plain") == ["x"]


def test_what_is_waiting_to_wake_up_wakes_in_the_order_of_its_time() -> None:
    """A receive that looks late does not leave out those whose time came first."""
    with driven(PLAIN) as engine:
        for delay in (3.0, 1.0, 2.0):
            engine.send("plain", f"delayed {delay}", delay=delay)
        engine.send("plain", "held 1", "held 2")
        for lease in (1.5, 2.5):
            engine.take("plain", 1, lease=lease)
        engine.let_pass(10)
        found = [body for _ in range(5) for body in engine.bodies("plain", 1)]
        assert found == ["delayed 1.0", "held 1", "delayed 2.0", "held 2", "delayed 3.0"]


@pytest.mark.parametrize("kind", ["delayed", "held"])
def test_of_what_wakes_up_the_first_is_received_first(kind: str) -> None:
    """By a receive that asks for one, whatever else has woken up meanwhile."""
    with driven(PLAIN) as engine:
        if kind == "delayed":
            engine.send("plain", "second", delay=2.0)
            engine.send("plain", "first", delay=1.0)
        else:
            engine.send("plain", "second", "first")
            for lease in (2.0, 1.0):
                engine.take("plain", 1, lease=lease)
        engine.let_pass(10)
        assert engine.bodies("plain", 1) == ["first"]


def test_who_extends_a_lease_that_has_ended_gets_the_message_back() -> None:
    """As long as nobody took it, also when a receive has found it ready since."""
    with driven(PLAIN) as engine:
        engine.send("plain", "1", "2")
        engine.send("plain", "3", "4", delay=0.5)
        held = [engine.take_one("plain", lease=lease) for lease in (1.0, 2.0)]
        engine.let_pass(10)
        assert engine.bodies("plain", 2) == ["3", "4"]
        assert engine.extend(*held, lease=60.0) == [None, None]
        assert engine.take("plain") == []
        engine.acknowledge(*held)


def test_next_in_looks_at_one_queue() -> None:
    """And at the earliest of each kind in it."""
    with driven(PLAIN, OTHER) as engine:
        engine.send("other", "1", "2", delay=1.0)
        for delay in (20.0, 30.0):
            engine.send("plain", "late", delay=delay)
        assert engine.next_in("plain") == 20
        engine.send("other", "x")
        engine.send("plain", "x", "y")
        for lease in (10.0, 15.0):
            engine.take("plain", 1, lease=lease)
        engine.take("other", lease=2.0)
        assert engine.next_in("plain") == 10


def test_depth_counts_one_queue() -> None:
    """Whatever kinds of messages there are in another one."""
    with driven(PLAIN, OTHER) as engine:
        engine.send("other", "lapsed", "held", "ready")
        engine.send("other", "late", delay=LEASE)
        engine.send("other", "due", delay=1.0)
        engine.take("other", 1, lease=1.0)
        engine.take("other", 1)
        engine.let_pass(1)
        assert engine.depth("plain") == Depth()
        assert engine.depth("other") == Depth(ready=3, in_flight=1, delayed=1)


def test_next_in_tells_the_first_of_all_kinds() -> None:
    """Ready before in flight before delayed, whichever comes first; nothing in an empty queue."""
    with driven(PLAIN, OTHER) as engine:
        assert engine.next_in("plain") is None
        engine.send("plain", "late", delay=20.0)
        engine.send("other", "elsewhere")
        assert engine.next_in("plain") == 20
        engine.send("plain", "x")
        assert engine.next_in("plain") == 0
        engine.take("plain", lease=10.0)
        assert engine.next_in("plain") == 10
        engine.let_pass(15)
        assert engine.next_in("plain") == -5
        with pytest.raises(QueueNotFound, match="unknown"):
            engine.next_in("unknown")


# Receiving


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_cannot_be_is_refused(limit: int) -> None:
    """By name, when receiving and when browsing."""
    with driven(PLAIN) as engine:
        engine.send("plain", "x")
        with pytest.raises(LimitExceeded, match="limit"):
            engine.take("plain", limit)
        with pytest.raises(LimitExceeded, match="limit"):
            engine.seen("plain", limit)
        assert engine.bodies("plain", 1) == ["x"]


def test_a_receive_of_many_gives_no_more_than_its_limit() -> None:
    """Across all that woke up as well."""
    with driven(PLAIN) as engine:
        engine.send("plain", *map(str, range(300)))
        engine.send("plain", *map(str, range(300, 310)), delay=1.0)
        engine.take("plain", 20, lease=1.0)
        engine.let_pass(1)
        assert len(engine.take("plain", 200)) == 200
        assert len(engine.take("plain", 200)) == 110


def test_receipts_are_new_and_random_each_time() -> None:
    """Number and secret, 128 bits; the same message never gets the same twice."""
    with driven(PLAIN) as engine:
        engine.send("plain", *map(str, range(50)))
        receipts: Counter[str] = Counter()
        for _ in range(4):
            receipts.update(one.receipt for one in engine.take("plain", 50, lease=0.0))
            engine.let_pass(0.001)
        assert max(receipts.values()) == 1
        assert len({receipt.partition(".")[2] for receipt in receipts}) == 200
        assert all(re.fullmatch(r"\d+\.[0-9a-f]{32}", receipt) for receipt in receipts)


def test_receipts_are_nothing_that_could_be_known() -> None:
    """Two databases to which the same happened give different ones, on queues of both kinds."""
    line = QueueSpec(name="line", fifo=True)
    with driven(PLAIN, line) as one, driven(PLAIN, line) as another:
        for engine in (one, another):
            engine.send("plain", "x", notes=NOTED)
            engine.send("line", "y", group="a", notes=NOTED)
        for ids in (None, ["m1", "m2"]):
            for queue in ("plain", "line"):
                (first,), (second,) = one.take(queue, lease=0.0, ids=ids), another.take(queue, lease=0.0, ids=ids)
                assert first.message == second.message
                assert first.receipt != second.receipt
            one.let_pass(0.001)
            another.let_pass(0.001)


def test_a_delivery_from_a_standard_queue_has_no_sequence() -> None:
    """There is no order that it could tell."""
    with driven(PLAIN) as engine:
        engine.send("plain", "x")
        assert [one.sequence for one in engine.take("plain")] == [None]


def test_ids_find_ready_and_delayed_messages_with_notes() -> None:
    """Of this queue, that nobody holds; each once, up to the limit."""
    with driven(PLAIN, OTHER) as engine:
        engine.send("plain", "m1", "m2", notes=NOTED)
        engine.send("plain", "m3", notes=NOTED, delay=60.0)
        engine.send("plain", "m4")
        engine.send("other", "m5", notes=NOTED)
        engine.take("plain", lease=1.0, ids=["m2"])
        taken = engine.take("plain", ids=["m3", "m2", "m4", "m5", "m1", "m1"])
        assert sorted(bodies_of(taken)) == ["m1", "m3"]
        engine.let_pass(0.999)
        assert engine.take("plain", ids=["m2"]) == []
        engine.let_pass(0.001)
        (again,) = engine.take("plain", ids=["m2"])
        assert again.receive_count == 2
        for one in (*taken, again):
            engine.hand_back(one)
        assert bodies_of(engine.take("plain", 2, ids=["m1", "m2", "m3"])) == ["m1", "m2"]


def test_what_is_received_too_often_by_its_id_is_moved() -> None:
    """As by any receive; it carries notes in the dead-letter queue, so that it is found there."""
    with driven(DEAD, LIMITED) as engine:
        engine.send("limited", "x", notes=NOTED)
        engine.send("limited", "y")
        for _ in range(2):
            for one in (*engine.take("limited", ids=["m1"]), *engine.take("limited")):
                engine.hand_back(one)
        assert engine.take("limited", ids=["m1"]) == []
        assert engine.take("limited") == []
        assert engine.total("limited") == 0
        found = {one.message.id: one for one in engine.take("dead", ids=["m1", "m2"])}
        assert [found[one].message.notes for one in ("m1", "m2")] == [NOTED, Notes(forwards=1)]
        assert [one.receive_count for one in found.values()] == [1, 1]


@pytest.mark.parametrize("damage", ["body = x'00'", "id = 'm9'", "notes = NULL", "sent_at_ms = 1", "group_id = 'h'"])
def test_what_is_not_what_was_sent_is_never_handed_out(damage: str) -> None:
    """Invariant 8: it is set aside, and what is behind it comes in its place; nothing deletes it."""
    with driven(PLAIN) as engine:
        engine.send("plain", "1", "2", group="g", notes=NOTED)
        engine.connection.execute(f"UPDATE message SET {damage} WHERE seq = 1")  # noqa: S608 - from the list above
        assert engine.bodies("plain", 1) == ["2"]
        assert [queue for queue, _ in engine.engine.damaged] == ["plain"]
        assert engine.total("plain") == 1
        engine.let_pass(2 * LEASE)
        assert engine.bodies("plain") == ["2"]
        assert len(engine.engine.damaged) == 1
        assert engine.count_of("message") == 2


def test_damage_that_is_found_by_an_id_is_told_with_its_queue() -> None:
    """As any other; and it is not found again."""
    with driven(PLAIN) as engine:
        engine.send("plain", "1", "2", notes=NOTED)
        engine.damage("1")
        assert bodies_of(engine.take("plain", ids=["m1", "m2"])) == ["2"]
        assert engine.engine.damaged == [("plain", "m1")]
        assert engine.take("plain", ids=["m1"]) == []


def test_dead_letters_make_room_within_the_same_receive() -> None:
    """However many of them there are in front."""
    with driven(DEAD, LIMITED) as engine:
        engine.send("limited", *map(str, range(25)))
        for _ in range(2):
            engine.take("limited", 25, lease=0.0)
            engine.let_pass(0.001)
        engine.send("limited", "fresh")
        assert engine.bodies("limited", 2) == ["fresh"]
        assert engine.total("dead") == 25


def test_an_uncounted_return_takes_back_one_receive() -> None:
    """This one, and no more."""
    with driven(DEAD, LIMITED) as engine:
        engine.send("limited", "x")
        counts = []
        for uncounted in (True, False, True, True, False):
            (taken,) = engine.take("limited")
            counts.append(taken.receive_count)
            engine.hand_back(taken, uncounted=uncounted)
        assert counts == [1, 1, 2, 2, 2]
        assert engine.take("limited") == []
        assert engine.bodies("dead") == ["x"]


# Settling


@pytest.mark.parametrize("stale", ["acknowledged", "doubled", "other", "never"])
def test_a_batch_of_acknowledgements_is_exact(stale: str) -> None:
    """One that does not count says so; the others do, in whatever company."""
    with driven(PLAIN) as engine:
        engine.send("plain", "1", "2", "3")
        first, second, third = engine.take("plain")
        odd_ones: dict[str, Settlement] = {
            "acknowledged": Acknowledge(delivery=first),
            "doubled": Acknowledge(delivery=second),
            "other": Return(delivery=second),
            "never": Acknowledge(delivery=_with_receipt(third, third.receipt[:-1] + "x")),
        }
        if stale == "acknowledged":
            engine.acknowledge(first)
        results = engine.settle(Acknowledge(delivery=second), odd_ones[stale], Acknowledge(delivery=third))
        assert [type(one) for one in results] == [type(None), StaleReceipt, type(None)]
        assert engine.total("plain") == (0 if stale == "acknowledged" else 1)


def test_a_receipt_of_one_message_settles_no_other() -> None:
    """Its number is part of it."""
    with driven(PLAIN) as engine:
        engine.send("plain", "1", "2")
        first, second = engine.take("plain")
        number, secret = first.receipt.partition(".")[0], second.receipt.partition(".")[2]
        mixed = _with_receipt(first, f"{number}.{secret}")
        assert [type(one) for one in engine.settle(Acknowledge(delivery=mixed))] == [StaleReceipt]
        both = (Acknowledge(delivery=mixed), Acknowledge(delivery=second))
        assert [type(one) for one in engine.settle(*both)] == [StaleReceipt, type(None)]
        assert engine.total("plain") == 1


def test_a_mixed_receipt_neither_returns_nor_extends_nor_writes() -> None:
    """Number of the one, secret of the other: both stay as they are."""
    with driven(PLAIN) as engine:
        engine.send("plain", "1", "2")
        first, second = engine.take("plain")
        number, secret = first.receipt.partition(".")[0], second.receipt.partition(".")[2]
        mixed = _with_receipt(first, f"{number}.{secret}")
        results = engine.settle(Return(delivery=mixed), Return(delivery=mixed, notes=NOTED))
        assert [type(one) for one in (*results, *engine.extend(mixed, lease=1.0))] == [StaleReceipt] * 3
        assert [one.notes for one in engine.seen("plain")] == [NOTHING, NOTHING]
        assert engine.next_in("plain") == LEASE
        assert engine.take("plain") == []


def test_notes_are_written_on_one_message() -> None:
    """Its neighbours keep theirs."""
    with driven(PLAIN) as engine:
        engine.send("plain", "1", "2")
        engine.settle(Return(delivery=engine.take_one("plain"), notes=NOTED))
        assert {one.body: one.notes for one in engine.seen("plain")} == {b"1": NOTED, b"2": NOTHING}
        assert len(engine.take("plain")) == 2


def test_a_damaged_message_that_is_returned_is_nobodys() -> None:
    """Its holder cannot delete it by its receipt: it is kept for whoever looks at it."""
    with driven(PLAIN) as engine:
        engine.send("plain", "x")
        taken = engine.take_one("plain")
        engine.damage("x")
        assert engine.settle(Return(delivery=taken, notes=NOTED)) == [None]
        assert [type(one) for one in engine.settle(Acknowledge(delivery=taken))] == [StaleReceipt]
        assert (engine.count_of("message"), engine.total("plain")) == (1, 0)


def test_a_returned_message_is_nobodys() -> None:
    """Its receipt settles nothing, before it is received again and after."""
    with driven(PLAIN) as engine:
        engine.send("plain", "x")
        (taken,) = engine.take("plain")
        engine.hand_back(taken)
        stale = [*engine.settle(Acknowledge(delivery=taken)), *engine.extend(taken, lease=1.0)]
        assert [type(one) for one in stale] == [StaleReceipt] * 2
        assert [(one.message.body, one.receive_count) for one in engine.take("plain")] == [(b"x", 2)]


def test_notes_are_written_replaced_and_taken_away() -> None:
    """With a return; the receipt has to be the last one for that, too."""
    with driven(PLAIN) as engine:
        engine.send("plain", "x")
        (before,) = engine.take("plain", lease=0.0)
        engine.let_pass(0.001)
        for notes, found in ((NOTED, NOTED), (None, NOTED), (NOTHING, NOTHING)):
            (taken,) = engine.take("plain")
            assert engine.settle(Return(delivery=taken, notes=notes)) == [None]
            assert [one.notes for one in engine.seen("plain")] == [found]
        stale = engine.settle(Return(delivery=before, notes=NOTED))
        assert [type(one) for one in stale] == [StaleReceipt]
        assert [one.notes for one in engine.seen("plain")] == [NOTHING]


def test_a_forward_from_or_to_a_queue_that_is_gone_is_refused() -> None:
    """By the name of the queue; the message stays."""
    with driven(PLAIN, OTHER) as engine:
        engine.send("plain", "x")
        (taken,) = engine.take("plain")
        (refused,) = engine.settle(Forward(delivery=taken, queue="unknown", message=taken.message))
        assert isinstance(refused, QueueNotFound)
        assert "unknown" in str(refused)
        engine.do(lambda it: it.delete("plain"))
        (refused,) = engine.settle(Forward(delivery=taken, queue="other", message=taken.message))
        assert isinstance(refused, QueueNotFound)
        assert [type(one) for one in engine.settle(Acknowledge(delivery=taken))] == [StaleReceipt]
        assert engine.total("other") == 0


def test_who_waits_is_told_of_everything_that_may_be_ready() -> None:
    """A send, a return, a forward and a death by the queue that they lead to; an acknowledgement tells nobody."""
    with driven(PLAIN, OTHER, DEAD, LIMITED) as engine:
        told = engine.engine.became_ready

        def heard() -> set[str]:
            names = set(told)
            told.clear()
            return names

        engine.send("plain", "1", "2", "3")
        assert heard() == {"plain"}
        first, second, third = engine.take("plain")
        engine.acknowledge(first)
        assert heard() == set()
        engine.hand_back(second)
        assert heard() == {"plain"}
        engine.forward(third, "other")
        assert heard() == {"other"}
        engine.send("limited", "x")
        for _ in range(2):
            engine.take("limited", lease=0.0)
            engine.let_pass(0.001)
        heard()
        engine.take("limited")
        assert heard() == {"dead"}


def test_who_waits_behind_a_lock_is_told_when_it_ends() -> None:
    """By an acknowledgement, a return or a shorter lease; not while something of the line is still in flight."""
    with driven(QueueSpec(name="line", fifo=True)) as engine:
        engine.send("line", "a1", "a2", "a3", group="a")
        told = engine.engine.became_ready
        first, second = engine.take("line", 2)
        told.clear()
        engine.acknowledge(first)
        assert told == set()
        engine.acknowledge(second)
        assert told == {"line"}
        told.clear()
        (third,) = engine.take("line")
        engine.acknowledge(third)
        assert told == set()


# Sizes


def _sized(body: int, attributes: dict[str, str], types: dict[str, str] | None = None) -> Outgoing:
    message = Message(id="m", body=b"x" * body, sent_at_ms=1, attributes=attributes, attribute_types=types)
    return Outgoing(message=message)


@pytest.mark.parametrize(
    ("outgoing", "size"),
    [
        (_sized(1_024, {}), 1_024),
        (_sized(1_000, {"name": "x" * 20}), 1_024),
        (_sized(1_000, {"name": "x" * 14}, {"name": "Number"}), 1_024),
        (_sized(1_000, {"name": "é" * 10}), 1_024),
        (_sized(1_000, {"naïve": "☕" * 6}), 1_024),
    ],
)
def test_a_size_is_that_of_body_names_types_and_values(outgoing: Outgoing, size: int) -> None:
    """In bytes, to the byte. Source: Amazon SQS, SetQueueAttributes `MaximumMessageSize`."""
    with driven(QueueSpec(name="exact", largest_message=size), PLAIN) as engine:
        assert engine.do(lambda it: it.send("exact", [outgoing], 1)) == [None]
        larger = Outgoing(
            message=Message(
                id="n",
                body=outgoing.message.body + b"x",
                sent_at_ms=1,
                attributes=outgoing.message.attributes,
                attribute_types=outgoing.message.attribute_types,
            )
        )
        (refused,) = engine.do(lambda it: it.send("exact", [larger], 1))
        assert isinstance(refused, LimitExceeded)
        assert (refused.value, str(size) in refused.limit) == (size + 1, True)
        assert engine.do(lambda it: it.send("plain", [larger], 1)) == [None]


def test_the_largest_message_of_a_queue_that_says_nothing() -> None:
    """1 MiB less the room for a failure record, attributes included."""
    with driven(PLAIN) as engine:
        results = engine.do(lambda it: it.send("plain", [_sized(MAX_BODY, {}), _sized(MAX_BODY, {"a": ""})], 1))
        assert [type(one) for one in results] == [type(None), LimitExceeded]


def test_a_message_is_forwarded_within_the_size_of_its_new_queue() -> None:
    """Otherwise it stays."""
    with driven(PLAIN, QueueSpec(name="small", largest_message=1_024)) as engine:
        engine.send("plain", "x" * 1_025)
        (taken,) = engine.take("plain")
        (refused,) = engine.settle(Forward(delivery=taken, queue="small", message=taken.message))
        assert isinstance(refused, LimitExceeded)
        assert engine.total("small") == 0
        engine.acknowledge(taken)


def test_many_messages_in_one_call_arrive_in_their_order() -> None:
    """However many statements that takes."""
    with driven(PLAIN) as engine:
        for count in (1, 7, 8, 33, 127, 128, 129, 300):
            engine.send("plain", *map(str, range(count)))
            assert engine.drain("plain") == [str(number) for number in range(count)]


# Looking


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_browsing_shows_everything_once_and_in_order(limit: int) -> None:
    """Ready by round and time, then delayed by time, then in flight by the end of their leases."""
    with driven(PLAIN, OTHER) as engine:
        for delay in (9.0, 7.0):
            engine.send("plain", f"delayed {delay}", delay=delay)
        engine.send("other", "elsewhere")
        engine.send("plain", "held long", "held")
        engine.take("plain", 1, lease=8.0)
        engine.take("plain", 1, lease=6.0)
        for number in range(2):
            engine.send("plain", f"a{number}", group="a")
        engine.send("plain", "b0", group="b")
        engine.send("plain", "none")
        expected = ["a0", "b0", "none", "a1", "delayed 7.0", "delayed 9.0", "held", "held long"]
        assert [one.body.decode() for one in engine.seen("plain", limit)] == expected


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_browsing_shows_what_has_the_same_time_in_the_order_of_sending(limit: int) -> None:
    """Page by page, of one queue alone."""
    with driven(PLAIN, OTHER) as engine:
        for queue in ("other", "plain", "other"):
            engine.send(queue, *(f"{queue} delayed {number}" for number in range(3)), delay=60.0)
            engine.send(queue, *(f"{queue} held {number}" for number in range(3)))
            assert len(engine.take(queue, 3)) == 3
            engine.send(queue, *(f"{queue} ready {number}" for number in range(3)))
        seen = [one.body.decode() for one in engine.seen("plain", limit)]
        assert seen == [f"plain {kind} {number}" for kind in ("ready", "delayed", "held") for number in range(3)]


def test_browsing_shows_what_is_ready_longest_first() -> None:
    """Of one round."""
    with driven(PLAIN) as engine:
        engine.send("plain", "second", delay=2.0)
        engine.send("plain", "first", delay=1.0)
        engine.send("plain", "taken", delay=0.5)
        engine.let_pass(5)
        engine.acknowledge(engine.take_one("plain"))
        engine.hand_back(engine.take_one("plain"), uncounted=True)
        engine.hand_back(engine.take_one("plain"), uncounted=True)
        assert sorted(one.body.decode() for one in engine.seen("plain", 1)) == ["first", "second"]


def test_what_was_returned_is_seen_among_what_is_ready() -> None:
    """Unless it waits for its time."""
    with driven(PLAIN) as engine:
        engine.send("plain", "1", "2", "3")
        first, second = engine.take("plain", 2)
        engine.hand_back(first)
        engine.hand_back(second, delay=5.0)
        engine.let_pass(1)
        engine.send("plain", "4")
        assert [one.body.decode() for one in engine.seen("plain")] == ["3", "1", "4", "2"]


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_browsing_shows_lines_one_after_the_other(limit: int) -> None:
    """Each in its order, whatever is leased or delayed."""
    with driven(QueueSpec(name="line", fifo=True)) as engine:
        engine.send("line", "b1", "b2", group="b")
        engine.send("line", "a1", group="a", delay=5.0)
        engine.send("line", "a2", group="a")
        engine.take("line", 1)
        assert [one.body.decode() for one in engine.seen("line", limit)] == ["a1", "a2", "b1", "b2"]


@pytest.mark.parametrize(
    "cursor", ["", "nonsense", "[]", "[0, 0, 0, 0]", "null", '["x", 0, 0, "", 0]', "[0,0,0,0,0,0]"]
)
def test_a_cursor_that_nobody_gave_is_refused(cursor: str) -> None:
    """By name."""
    with driven(PLAIN) as engine, pytest.raises(LimitExceeded, match="cursor"):
        engine.engine.browse("plain", cursor=cursor, limit=1)


def _with_receipt(delivery: Delivery, receipt: str) -> Delivery:
    return replace(delivery, receipt=receipt)
