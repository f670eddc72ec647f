"""The checker finds each violation in a history made by hand, and none where there may have been none."""

from __future__ import annotations

import pytest

from redrive.testing import History
from tests.crash.story import STALE, Story


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_history_that_keeps_every_promise_gives_none(story: Story) -> None:
    """Sent, received, handed back, received again, acknowledged; and another one left."""
    story.send("p", "orders", "m1", "m2")
    held = story.receive("c", "orders", "m1")
    story.settle(held, "return")
    story.settle(story.receive("d", "orders", "m1", count=2))
    assert story.kinds({"orders": ["m2"]}) == []


# Nothing answered is lost (promises 1 and 2)


def test_what_was_answered_and_is_nowhere_is_lost(story: Story) -> None:
    """Named with its queue, and with whoever received it last."""
    story.send("p", "orders", "m1")
    story.receive("c", "orders", "m1")
    (one,) = story.violations()
    assert one.kind == "lost"
    assert (one.message_id, one.queue) == ("m1", "orders")
    assert "'m1' was sent to 'orders'" in one.sentence
    assert "c was the last to receive it" in one.sentence
    assert one.evidence == ("p.history:1", "c.history:1")


def test_a_send_that_was_not_answered_may_be_lost(story: Story) -> None:
    """Nobody was promised anything; neither after a refusal."""
    story.send("p", "orders", "m1", got=None)
    story.send("q", "orders", "m2", got={"got": [{"refused": "too large"}]})
    story.send("r", "orders", "m3", got={"raised": "BrokerUnavailable: away", "refused": True})
    assert story.kinds() == []


def test_an_acknowledgement_without_an_answer_may_have_been_done(story: Story) -> None:
    """One that was stale was not done: then it is lost."""
    story.send("p", "orders", "m1", "m2")
    story.settle(story.receive("c", "orders", "m1"), got=None)
    story.settle(story.receive("d", "orders", "m2"), got={"got": STALE})
    assert [(one.kind, one.message_id) for one in story.violations()] == [("lost", "m2")]


def test_a_message_is_left_in_whatever_queue(story: Story) -> None:
    """Dead and parked is not lost; neither is what a handler says it handled, or what was purged."""
    story.send("p", "inbox", "m1", "m2")
    story.send("p", "bin", "m3")
    story.call("w", "handle", None, id="m2")
    story.call("w", "purge", {"got": [1]}, queue="bin")
    assert story.kinds({"inbox-parked-payments": ["m1"]}) == []


def test_a_duplicate_is_the_message_that_was_sent_first(story: Story) -> None:
    """If that one is lost, it is lost; the id of the duplicate is nobody's."""
    story.send("p", "lines", "m1", group="g", key="k", got={"got": [["m1", 1, False]]})
    story.send("p", "lines", "m2", group="g", key="k", got={"got": [["m1", 1, True]]})
    assert story.kinds({"lines": ["m1"]}) == []
    assert {one.message_id for one in story.violations()} == {"m1"}


def test_what_was_acknowledged_does_not_come_back(story: Story) -> None:
    """Neither by a receive nor in a queue."""
    story.send("p", "orders", "m1", "m2")
    for identity in ("m1", "m2"):
        story.settle(story.receive("c", "orders", identity))
    story.wait(60)
    story.receive("d", "orders", "m1", count=2)
    found = story.violations({"orders": ["m2"]})
    assert [(one.kind, one.message_id) for one in found] == [("came back", "m1"), ("came back", "m2")]
    assert "d received it again" in found[0].sentence


def test_what_was_sent_again_under_its_id_may_come_back(story: Story) -> None:
    """A client that does not know sends again: then there are two."""
    story.send("p", "orders", "m1", got=None)
    story.send("q", "orders", "m1")
    story.settle(story.receive("c", "orders", "m1"))
    story.receive("d", "orders", "m1")
    assert story.kinds({"orders": ["m1"]}) == []


def test_what_nobody_sent_is_not_there(story: Story) -> None:
    """Nor what was refused."""
    story.send("p", "orders", "m1", got={"got": [{"refused": "too large"}]})
    story.receive("c", "orders", "m1")
    found = story.violations({"orders": ["m1", "m2"]})
    assert [(one.kind, one.message_id) for one in found] == [("out of nowhere", "m1"), ("out of nowhere", "m2")]
    assert "refused" in found[0].sentence
    assert "nobody sent it" in found[1].sentence


def test_a_body_arrives_as_it_was_sent(story: Story) -> None:
    """Or as it was forwarded."""
    story.send("p", "orders", "m1", "m2")
    story.settle(story.receive("c", "orders", "m1"), "forward", target="inbox", digest="edited")
    story.receive("c", "inbox", "m1", body="edited")
    assert story.kinds({"inbox": ["m1"], "orders": ["m2"]}) == []
    story.receive("c", "orders", "m2", body="something else")
    assert story.kinds({"inbox": ["m1"], "orders": ["m2"]}) == ["altered"]


def test_a_message_is_left_once(story: Story) -> None:
    """Unless forwards may copy; and never twice in one queue."""
    story.send("p", "orders", "m1")
    assert story.kinds({"orders": ["m1"], "inbox": ["m1"]}) == ["doubled"]
    assert story.kinds({"orders": ["m1"], "inbox": ["m1"]}, atomic_forward=False) == []
    assert story.kinds({"orders": ["m1", "m1"]}, atomic_forward=False) == ["doubled"]


# Leases (promise 3)


def test_a_message_under_lease_is_not_given_again(story: Story) -> None:
    """Also when its holder was killed, for the broker cannot know."""
    story.send("p", "orders", "m1")
    story.receive("c", "orders", "m1", lease=30)
    story.kill("c")
    story.wait(20)
    story.receive("d", "orders", "m1", count=2)
    (one,) = story.violations({"orders": ["m1"]})
    assert one.kind == "leased twice"
    assert "leased to c from 'orders' until 129" in one.sentence
    assert "d had it" in one.sentence
    assert one.evidence == ("c.history:1", "d.history:1")
    assert story.kinds({"orders": ["m1"]}, death_frees=True) == []


def test_a_lease_that_ended_may_be_followed(story: Story) -> None:
    """By its length, by a settlement, and by one that may have been done."""
    story.send("p", "orders", "m1", "m2", "m3")
    story.receive("c", "orders", "m1", lease=5)
    story.settle(story.receive("c", "orders", "m2"), "return")
    story.settle(story.receive("c", "orders", "m3"), "return", got=None)
    story.receive("d", "orders", "m2", count=2)
    story.receive("d", "orders", "m3", count=2)
    story.wait(5)
    story.receive("d", "orders", "m1", count=2)
    assert story.kinds({"orders": ["m1", "m2", "m3"]}) == []


def test_a_stale_settlement_ends_no_lease(story: Story) -> None:
    """Its answer said that nothing happened."""
    story.send("p", "orders", "m1")
    story.settle(story.receive("c", "orders", "m1"), "return", got={"got": STALE})
    story.receive("d", "orders", "m1", count=2)
    assert story.kinds({"orders": ["m1"]}) == ["leased twice"]


def test_an_extended_lease_lasts_longer(story: Story) -> None:
    """An extension that was answered counts from when it was asked for; one that was not may have been shorter."""
    story.send("p", "orders", "m1", "m2")
    one, other = story.receive("c", "orders", "m1", lease=5), story.receive("c", "orders", "m2", lease=30)
    story.extend(one, 60)
    story.extend(other, 1, got=None)
    story.wait(10)
    story.receive("d", "orders", "m1", count=2)
    story.receive("d", "orders", "m2", count=2)
    assert [(one.kind, one.message_id) for one in story.violations({"orders": ["m1", "m2"]})] == [
        ("leased twice", "m1")
    ]


def test_calls_at_the_same_time_may_have_been_in_either_order(story: Story) -> None:
    """A receive that waited for long may have been given the message at its end, when the lease before was over."""
    story.send("p", "orders", "m1")
    story.receive("c", "orders", "m1", count=2, lease=30, took=20)
    story.now -= 15
    story.receive("d", "orders", "m1", count=1, lease=1, took=1)
    assert story.kinds({"orders": ["m1"]}) == []
    story.receive("e", "orders", "m1", count=3)
    assert story.kinds({"orders": ["m1"]}) == ["leased twice"]


def test_a_message_is_not_given_from_two_queues(story: Story) -> None:
    """A forward moves; where it copies, each queue has leases of its own."""
    story.send("p", "orders", "m1")
    story.receive("c", "orders", "m1")
    story.receive("d", "inbox", "m1")
    assert story.kinds({"orders": ["m1"]}) == ["leased twice"]
    assert story.kinds({"orders": ["m1"]}, atomic_forward=False) == []


def test_a_receipt_dies_with_the_next_receive(story: Story) -> None:
    """Whatever is asked with the old one is refused."""
    story.send("p", "orders", "m1")
    held = story.receive("c", "orders", "m1", lease=1)
    story.wait(2)
    story.receive("d", "orders", "m1", count=2)
    story.extend(held, 30, got={"got": STALE})
    assert story.kinds({"orders": ["m1"]}) == []
    story.settle(held, "return")
    (one,) = story.violations({"orders": ["m1"]})
    assert one.kind == "stale receipt honoured"
    assert "c was answered its return" in one.sentence


# Order (promise 4)


def sent_in_order(story: Story, *ids: str, numbered: bool) -> None:
    for number, identity in enumerate(ids, 1):
        answer = [identity, number, False] if numbered else None
        story.send("p", "lines", identity, group="g", got={"got": [answer]})


@pytest.mark.parametrize("numbered", [True, False])
def test_a_producer_s_messages_are_first_received_in_its_order(story: Story, *, numbered: bool) -> None:
    """By numbers, or where the broker has none, by the answers to the producer."""
    sent_in_order(story, "m1", "m2", numbered=numbered)
    two = story.receive("c", "lines", "m2", number=2 if numbered else None)
    story.settle(two)
    story.settle(story.receive("c", "lines", "m1", number=1 if numbered else None))
    kinds = story.kinds()
    assert "out of order" in kinds
    assert ("overtaken" in kinds) is numbered


def test_in_one_receive_the_order_counts_too(story: Story) -> None:
    """The first of a line is the first in the answer."""
    sent_in_order(story, "m1", "m2", numbered=True)
    leases = [["m2", "g", "r2", 1, 2, "body of m2"], ["m1", "g", "r1", 1, 1, "body of m1"]]
    story.receive_all("c", "lines", leases)
    assert story.kinds({"lines": ["m1", "m2"]}) == ["out of order", "overtaken"]


def test_producers_at_the_same_time_have_no_order(story: Story) -> None:
    """Nor have groups; nor what was sent by two calls at once."""
    story.send("p", "lines", "m1", group="g")
    story.send("q", "lines", "m2", group="g")
    story.send("p", "lines", "m3", group="h")
    for identity in ("m3", "m2", "m1"):
        story.settle(story.receive("c", "lines", identity))
    assert story.kinds() == []


def test_a_line_is_not_overtaken_after_a_lease(story: Story) -> None:
    """What was handed back stands in front again, whoever sent it."""
    story.send("p", "lines", "m1", group="g", got={"got": [["m1", 1, False]]})
    story.send("q", "lines", "m2", group="g", got={"got": [["m2", 2, False]]})
    story.settle(story.receive("c", "lines", "m1", number=1), "return")
    story.settle(story.receive("d", "lines", "m2", number=2))
    story.settle(story.receive("c", "lines", "m1", count=2, number=1))
    (one,) = story.violations()
    assert one.kind == "overtaken"
    assert "'m2' of group 'g' in 'lines' (number 2) was received by d while 'm1' (number 1)" in one.sentence


def test_what_left_and_came_back_stands_at_the_end(story: Story) -> None:
    """Its new number says so."""
    sent_in_order(story, "m1", "m2", numbered=True)
    story.settle(story.receive("c", "lines", "m1", number=1), "forward", target="lines", digest="body of m1")
    story.settle(story.receive("c", "lines", "m2", number=2))
    story.settle(story.receive("c", "lines", "m1", number=3))
    assert story.kinds() == []


def test_numbers_rise(story: Story) -> None:
    """In the order in which sends were answered."""
    story.send("p", "lines", "m1", group="g", got={"got": [["m1", 7, False]]})
    story.send("q", "lines", "m2", group="h", got={"got": [["m2", 7, False]]})
    assert story.kinds({"lines": ["m1", "m2"]}) == ["number not rising"]
    story.send("p", "lines", "m3", group="g", got={"got": [["m3", 8, False]]})  # after two of one number
    assert story.kinds({"lines": ["m1", "m2", "m3"]}) == ["number not rising"]


# Counts (promise 5)


def test_receives_are_counted_one_by_one(story: Story) -> None:
    """A count that leaps, stays or falls is none."""
    for identity, second in (("m1", 3), ("m2", 1), ("m3", 2)):
        story.send("p", "orders", identity)
        story.settle(story.receive("c", "orders", identity), "return")
        story.settle(story.receive("c", "orders", identity, count=second))
    found = story.violations()
    assert [(one.kind, one.message_id) for one in found] == [("miscounted", "m1"), ("miscounted", "m2")]
    assert "with receive count 3; it had count 1 before" in found[0].sentence


def test_a_receive_that_nobody_saw_may_have_counted(story: Story) -> None:
    """One of another queue cannot, nor one that was over before."""
    story.send("p", "orders", "m1", "m2", "m3")
    story.receive_unseen("killed-1", "orders")
    story.wait(40)
    story.receive("c", "orders", "m1", count=2)
    assert story.kinds({"orders": ["m1", "m2", "m3"]}) == []
    story.receive("c", "orders", "m2", count=3)
    assert story.kinds({"orders": ["m1", "m2", "m3"]}) == ["miscounted"]


def test_a_receive_that_was_taken_back_does_not_count(story: Story) -> None:
    """It may count if the answer is not known."""
    story.send("p", "orders", "m1", "m2")
    story.settle(story.receive("c", "orders", "m1"), "return", uncounted=True)
    story.settle(story.receive("c", "orders", "m1"), "return", uncounted=True, got=None)
    story.settle(story.receive("c", "orders", "m1", count=2))
    story.settle(story.receive("c", "orders", "m2"), "return", uncounted=True)
    story.settle(story.receive("c", "orders", "m2", count=2))
    assert [(one.kind, one.message_id) for one in story.violations()] == [("miscounted", "m2")]


def test_what_comes_in_anew_is_counted_anew(story: Story) -> None:
    """By a forward, or when the broker moves it."""
    story.send("p", "orders", "m1", "m2")
    story.settle(story.receive("c", "orders", "m1"), "forward", target="orders", digest="body of m1")
    story.settle(story.receive("c", "orders", "m1"))
    story.settle(story.receive("c", "orders", "m2"), "return")
    story.call("c", "move", None, source="dead", target=None)
    story.settle(story.receive("c", "orders", "m2"))
    assert story.kinds() == []


def receives(story: Story, identity: str, times: int) -> None:
    for count in range(1, times + 1):
        story.settle(story.receive("c", "orders", identity, count=count), "return")


def test_nothing_is_received_more_often_than_allowed(story: Story) -> None:
    """The fourth of three is one too many."""
    story.send("p", "orders", "m1")
    receives(story, "m1", 4)
    (one,) = story.violations({"orders": ["m1"]})
    assert one.kind == "died late"
    assert "for the 4th time" in one.sentence


def test_nothing_dies_before_its_time(story: Story) -> None:
    """Whether it is left dead or received dead; three of three is its time."""
    story.send("p", "orders", "m1", "m2", "m3")
    receives(story, "m1", 2)
    receives(story, "m2", 3)
    receives(story, "m3", 2)
    story.receive("d", "dead", "m3")
    found = story.violations({"dead": ["m1", "m2", "m3"]})
    assert [(one.kind, one.message_id) for one in found] == [("died early", "m3"), ("died early", "m1")]
    assert "'m1' is dead in 'dead' after 2 receives from 'orders', of 3" in found[1].sentence


def test_a_dead_letter_may_have_been_received_unseen(story: Story) -> None:
    """And whatever is forwarded to the dead by hand has no number to reach."""
    story.send("p", "orders", "m1", "m2")
    receives(story, "m1", 2)
    story.receive_unseen("killed-1", "orders")
    story.settle(story.receive("c", "orders", "m2"), "forward", target="dead", digest="body of m2")
    assert story.kinds({"dead": ["m1", "m2"]}) == []


# Deduplication (promise 6)


def test_one_deduplication_id_is_one_message(story: Story) -> None:
    """Two that were both answered as new are two; after five minutes they may be."""
    story.send("p", "lines", "m1", group="g", key="k", got={"got": [["m1", 1, False]]})
    story.send("q", "lines", "m2", group="g", key="k", got={"got": [["m2", 2, False]]})
    (one,) = story.violations({"lines": ["m1", "m2"]})
    assert one.kind == "sent twice"
    assert "'m1' and 'm2' were sent to 'lines' under deduplication id 'k'" in one.sentence
    story.wait(301)
    story.send("p", "lines", "m3", group="g", key="k", got={"got": [["m3", 3, False]]})
    assert story.kinds({"lines": ["m1", "m2", "m3"]}) == ["sent twice"]


def test_a_send_without_an_answer_may_be_the_one(story: Story) -> None:
    """But not both it and the one that was sent after it."""
    story.send("p", "lines", "m1", group="g", key="k", got=None)
    story.kill("p")
    story.send("q", "lines", "m2", group="g", key="k", got={"got": [["m2", 2, False]]})
    assert story.kinds({"lines": ["m2"]}) == []
    assert story.kinds({"lines": ["m1", "m2"]}) == ["sent twice"]


def test_a_body_is_its_own_deduplication_id(story: Story) -> None:
    """On a queue that deduplicates by content."""
    for process in ("p", "q"):
        story.send(process, "bodies", "m1", group="g", got={"got": [["m1", 1 if process == "p" else 2, False]]})
    assert story.kinds({"bodies": ["m1"]}) == ["sent twice"]


def test_a_duplicate_is_one_of_something(story: Story) -> None:
    """Of a message that was sent before under the same id."""
    story.send("p", "lines", "m1", group="g", key="k", got={"got": [["m1", 1, False]]})
    story.send("p", "lines", "m2", group="g", key="other", got={"got": [["m1", 1, True]]})
    assert story.kinds({"lines": ["m1"]}) == ["wrongly duplicate"]


# Logs


def test_a_line_that_was_torn_was_not_written(story: Story) -> None:
    """The kill came in the middle of it; a broken line elsewhere is no log of ours."""
    story.send("p", "orders", "m1")
    text = "".join(story.logs["p"])
    assert History.of({"p": text[:-3]}).sends[0].call.answered is False
    with pytest.raises(ValueError, match=r"p\.history:1 is not a line of a recorder"):
        History.of({"p": "{torn\n" + text})


def test_a_broker_behind_a_network_may_go_on_after_a_kill(story: Story) -> None:
    """For as long as `linger` says, a call without an answer may still be done."""
    story.send("p", "orders", "m1")
    story.receive_unseen("killed-1", "orders")
    logs = {process: "".join(lines) for process, lines in story.logs.items()}
    died = History.of(logs).deaths["killed-1"]
    assert [History.of(logs, linger=seconds).receives[0].call.ended - died for seconds in (0, 5)] == [0, 5]
