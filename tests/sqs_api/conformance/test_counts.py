"""What `/metrics` remembers: queues that are there, and nothing of those that never were."""

from __future__ import annotations

from tests.sqs_api.conformance.driven import Driven


async def test_whoever_asks_for_queues_that_do_not_exist_costs_no_memory() -> None:
    """Decided here: their names are not kept, and a queue that is deleted is forgotten."""
    driven = Driven()
    await driven.call("CreateQueue", QueueName="orders")
    await driven.call("SendMessage", "orders", MessageBody="a")
    for operation, request in (
        ("ReceiveMessage", {}),
        ("SendMessage", {"MessageBody": "a"}),
        ("DeleteMessage", {"ReceiptHandle": "x"}),
    ):
        await driven.refused(operation, "never", **request)
    service = driven.service
    assert [sorted(counter) for counter in (service._sent, service._received, service._deleted)] == [["orders"], [], []]
    await driven.call("DeleteQueue", "orders")
    assert not service._sent
