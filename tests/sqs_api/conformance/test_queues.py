"""Queues: their names, their being made again, pages of them, their end. `driven` says what the sources are."""

from __future__ import annotations

import pytest

from redrive.sqs_api.calls import QueueCounts
from tests.sqs_api.conformance.driven import ACCOUNT, Driven, url

GONE = "QueueDoesNotExist", "The specified queue does not exist."
STANDARD = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"


@pytest.mark.parametrize("name", ["a", "A-b_9", "x" * 80, "x" * 75 + ".fifo"])
async def test_a_name_has_1_to_80_characters(sqs: Driven, name: str) -> None:
    """Letters, digits, hyphens and underscores; the `.fifo` counts.

    Source: api, CreateQueue.
    """
    kind = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    assert await sqs.call("CreateQueue", QueueName=name, Attributes=kind) == {"QueueUrl": url(name)}


@pytest.mark.parametrize("name", ["", "x" * 81, "with space", "a/b", "é", "a.b", "orders.fifo", ".fifo"])
async def test_what_is_no_name_of_a_standard_queue_is_refused(sqs: Driven, name: str) -> None:
    """Nor is one that ends with `.fifo`.

    Source: recorded, test_standard_queue_cannot_have_fifo_suffix, test_disallow_queue_name_with_slashes.
    """
    assert await sqs.refused("CreateQueue", QueueName=name) == ("InvalidParameterValue", STANDARD)


@pytest.mark.parametrize("name", ["orders", ".fifo", "x" * 76 + ".fifo", "a b.fifo"])
async def test_a_fifo_queue_needs_its_suffix(sqs: Driven, name: str) -> None:
    """And is no longer than 80 characters with it.

    Source: recorded, test_fifo_queue_requires_suffix.
    """
    code, message = await sqs.refused("CreateQueue", QueueName=name, Attributes={"FifoQueue": "true"})
    assert code == "InvalidParameterValue"
    assert "must end with .fifo suffix" in message


async def test_to_make_a_queue_again_gives_its_url(sqs: Driven) -> None:
    """Without attributes, with some of them, and with messages in it.

    Source: recorded, test_create_queue_with_default_attributes_is_idempotent, test_create_queue_after_send.
    """
    await sqs.create("orders", VisibilityTimeout="69", ReceiveMessageWaitTimeSeconds="1")
    await sqs.send("orders", DelaySeconds=1)
    for attributes in ({}, {"VisibilityTimeout": "69"}):
        answer = await sqs.call("CreateQueue", QueueName="orders", Attributes=attributes)
        assert answer == {"QueueUrl": url("orders")}


async def test_a_queue_that_is_set_otherwise_cannot_be_made_again(sqs: Driven) -> None:
    """The message names the attribute; what counts is how the queue is set now.

    Source: recorded, test_create_queue_with_different_attributes_raises_exception.
    """
    await sqs.create("orders", ReceiveMessageWaitTimeSeconds="1", DelaySeconds="1")
    problem = "A queue already exists with the same name and a different value for attribute DelaySeconds"
    changed = {"ReceiveMessageWaitTimeSeconds": "1", "DelaySeconds": "2"}
    assert await sqs.refused("CreateQueue", QueueName="orders", Attributes=changed) == ("QueueNameExists", problem)
    await sqs.call("SetQueueAttributes", "orders", Attributes={"DelaySeconds": "2"})
    await sqs.call("CreateQueue", QueueName="orders", Attributes=changed)
    former = {**changed, "DelaySeconds": "1"}
    assert await sqs.refused("CreateQueue", QueueName="orders", Attributes=former) == ("QueueNameExists", problem)


async def test_a_fifo_queue_that_is_set_otherwise_cannot_be_made_again(sqs: Driven) -> None:
    """Likewise.

    Source: recorded, test_create_fifo_queue_with_different_attributes_raises_error.
    """
    await sqs.create("orders.fifo", ContentBasedDeduplication="true")
    given = {"FifoQueue": "true", "ContentBasedDeduplication": "false"}
    problem = "A queue already exists with the same name and a different value for attribute ContentBasedDeduplication"
    assert await sqs.refused("CreateQueue", QueueName="orders.fifo", Attributes=given) == ("QueueNameExists", problem)


async def test_other_tags_make_no_other_queue(sqs: Driven) -> None:
    """They are not changed either.

    Source: api, CreateQueue, which names attributes alone.
    """
    await sqs.call("CreateQueue", QueueName="orders", tags={"team": "a"})
    assert await sqs.call("CreateQueue", QueueName="orders", tags={"team": "b"}) == {"QueueUrl": url("orders")}
    assert await sqs.call("ListQueueTags", "orders") == {"Tags": {"team": "a"}}


async def test_a_deleted_name_rests_for_a_minute(sqs: Driven) -> None:
    """Then it may be used again, for a queue that is empty.

    Source: recorded, test_create_queue_recently_deleted.
    """
    await sqs.create("orders")
    await sqs.call("DeleteQueue", "orders")
    problem = "You must wait 60 seconds after deleting a queue before you can create another with the same name."
    sqs.let_pass(59.9)
    assert await sqs.refused("CreateQueue", QueueName="orders") == ("QueueDeletedRecently", problem)
    sqs.let_pass(0.1)
    assert await sqs.call("CreateQueue", QueueName="orders") == {"QueueUrl": url("orders")}
    assert await sqs.counts("orders") == (0, 0, 0)


async def test_a_queue_ends_with_all_that_is_in_it(sqs: Driven) -> None:
    """Nothing finds it from then on.

    Source: recorded, test_non_existent_queue; api, DeleteQueue.
    """
    await sqs.create("orders")
    await sqs.send("orders")
    assert await sqs.call("DeleteQueue", "orders") == {}
    assert await sqs.refused("GetQueueUrl", QueueName="orders") == GONE
    assert await sqs.refused("SendMessage", "orders", MessageBody="x") == GONE
    assert await sqs.refused("ReceiveMessage", "orders") == GONE
    assert await sqs.refused("DeleteQueue", "orders") == GONE


async def test_the_query_protocol_has_another_text_for_it(sqs_query: Driven) -> None:
    """Older than the other one.

    Source: recorded, test_non_existent_queue.
    """
    code, message = await sqs_query.refused("GetQueueUrl", QueueName="orders")
    assert (code, message) == (GONE[0], "The specified queue does not exist for this wsdl version.")


async def test_a_url_is_found_by_name_and_owner(sqs: Driven) -> None:
    """The owner may be left out.

    Source: api, GetQueueUrl.
    """
    await sqs.create("orders")
    assert await sqs.call("GetQueueUrl", QueueName="orders") == {"QueueUrl": url("orders")}
    ours = await sqs.call("GetQueueUrl", QueueName="orders", QueueOwnerAWSAccountId=ACCOUNT)
    assert ours == {"QueueUrl": url("orders")}
    assert await sqs.refused("GetQueueUrl", QueueName="orders", QueueOwnerAWSAccountId="222222222222") == GONE
    assert await sqs.refused("GetQueueUrl", QueueName="orders.fifo") == GONE


async def test_a_queue_s_name_serves_as_its_url(sqs: Driven) -> None:
    """Amazon takes it.

    Source: recorded, test_posting_to_queue_via_queue_name.
    """
    await sqs.create("orders")
    sent = await sqs.call("SendMessage", QueueUrl="orders", MessageBody="Using name instead of URL")
    assert sent["MD5OfMessageBody"] == "86a83f96652a1bfad3891e7d523750cb"


async def test_a_url_of_another_host_leads_here(sqs: Driven) -> None:
    """Clients reach one endpoint by several names.

    Source: decided here.
    """
    await sqs.create("orders")
    await sqs.call("SendMessage", QueueUrl=f"https://sqs.example/{ACCOUNT}/orders", MessageBody="x")
    assert await sqs.counts("orders") == (1, 0, 0)
    for wrong in (f"http://h/222222222222/{ACCOUNT}", "http://h/222222222222/orders"):
        assert await sqs.refused("ReceiveMessage", QueueUrl=wrong) == GONE
    code, _ = await sqs.refused("ReceiveMessage", QueueUrl="http://h/orders")
    assert code == "InvalidAddress"


# Lists


async def test_queues_are_listed_by_prefix(sqs: Driven) -> None:
    """In order of their names; where there is none the answer is empty.

    Source: recorded, test_list_queues.
    """
    for name in ("b-1", "a-2", "a-1", "a-3.fifo"):
        await sqs.create(name)
    assert await sqs.call("ListQueues", QueueNamePrefix="a-") == {
        "QueueUrls": [url("a-1"), url("a-2"), url("a-3.fifo")]
    }
    assert await sqs.call("ListQueues", QueueNamePrefix="c") == {}
    answer = await sqs.call("ListQueues")
    assert len(answer["QueueUrls"]) == 4


async def test_a_page_ends_with_a_token_for_the_next(sqs: Driven) -> None:
    """Only where `MaxResults` asks for pages.

    Source: recorded, test_list_queues_pagination; api, ListQueues.
    """
    names = [f"queue-{number}" for number in range(5)]
    for name in names:
        await sqs.create(name)
    first = await sqs.call("ListQueues", MaxResults=2)
    assert first["QueueUrls"] == [url(name) for name in names[:2]]
    rest = await sqs.call("ListQueues", MaxResults=1000, NextToken=first["NextToken"])
    assert rest == {"QueueUrls": [url(name) for name in names[2:]]}
    assert "NextToken" not in await sqs.call("ListQueues")
    assert "NextToken" not in await sqs.call("ListQueues", MaxResults=5)


@pytest.mark.parametrize("most", [0, 1001, -1])
async def test_a_page_has_1_to_1000_queues(sqs: Driven, most: int) -> None:
    """Other sizes are refused.

    Source: api, ListQueues.
    """
    code, _ = await sqs.refused("ListQueues", MaxResults=most)
    assert code == "InvalidParameterValue"


async def test_the_sources_of_a_dead_letter_queue_are_listed(sqs: Driven) -> None:
    """With pages too; the member is called `queueUrls`, also where there is none.

    Source: recorded, test_dead_letter_queue_list_sources; api, ListDeadLetterSourceQueues, which requires the
    member.
    """
    _, dead = await sqs.pair("orders", most=3)
    await sqs.call(
        "CreateQueue",
        QueueName="bills",
        Attributes={"RedrivePolicy": (await sqs.attributes("orders"))["RedrivePolicy"]},
    )
    answer = await sqs.call("ListDeadLetterSourceQueues", dead)
    assert answer == {"queueUrls": [url("bills"), url("orders")]}
    page = await sqs.call("ListDeadLetterSourceQueues", dead, MaxResults=1)
    assert page["queueUrls"] == [url("bills")]
    rest = await sqs.call("ListDeadLetterSourceQueues", dead, MaxResults=1, NextToken=page["NextToken"])
    assert rest == {"queueUrls": [url("orders")]}
    assert await sqs.call("ListDeadLetterSourceQueues", "orders") == {"queueUrls": []}


# Purge


async def test_a_purge_takes_what_is_ready_in_flight_and_delayed(sqs: Driven) -> None:
    """What is sent after it stays.

    Source: recorded, test_purge_queue_deletes_inflight_messages, test_purge_queue_deletes_delayed_messages.
    """
    await sqs.create("orders")
    await sqs.send("orders", "in flight")
    await sqs.receive_one("orders", VisibilityTimeout=3)
    await sqs.send("orders", "ready")
    await sqs.send("orders", "delayed", DelaySeconds=2)
    assert await sqs.counts("orders") == (1, 1, 1)
    assert await sqs.call("PurgeQueue", "orders") == {}
    sqs.let_pass(5)
    assert await sqs.receive("orders") == []
    await sqs.send("orders", "after")
    assert await sqs.bodies("orders") == ["after"]


async def test_a_queue_is_purged_once_a_minute(sqs: Driven) -> None:
    """Each by itself.

    Source: recorded, test_successive_purge_calls_fail.
    """
    for name in ("orders", "bills"):
        await sqs.create(name)
        await sqs.call("PurgeQueue", name)
    sqs.let_pass(59.9)
    problem = "Only one PurgeQueue operation on orders is allowed every 60 seconds."
    assert await sqs.refused("PurgeQueue", "orders") == ("PurgeQueueInProgress", problem)
    sqs.let_pass(0.1)
    await sqs.call("PurgeQueue", "orders")


async def test_a_purge_forgets_what_was_sent(sqs: Driven) -> None:
    """The same deduplication id is no duplicate then.

    Source: recorded, test_purge_queue_clears_fifo_deduplication_cache.
    """
    await sqs.create("orders.fifo")
    ids = {"MessageGroupId": "a", "MessageDeduplicationId": "1"}
    await sqs.send("orders.fifo", "before", **ids)
    await sqs.call("PurgeQueue", "orders.fifo")
    await sqs.send("orders.fifo", "after", **ids)
    assert await sqs.bodies("orders.fifo") == ["after"]


# Metrics


async def test_what_passes_through_a_queue_is_counted(sqs: Driven) -> None:
    """Since the endpoint began: what was sent, each delivery, and what was deleted; refused things are not.

    Source: decided here, for `/metrics`.
    """
    await sqs.create("orders")
    await sqs.create("bills.fifo")
    await sqs.send_batch("orders", {"MessageBody": "a"}, {"MessageBody": "b"}, {"MessageBody": "\x01"})
    await sqs.send("orders", "c", DelaySeconds=5)
    first, _ = await sqs.receive("orders")
    entries = [{"Id": "1", "ReceiptHandle": first["ReceiptHandle"]}, {"Id": "2", "ReceiptHandle": "garbage"}]
    await sqs.call("DeleteMessageBatch", "orders", Entries=entries)
    none = {"visible": 0, "not_visible": 0, "delayed": 0, "sent": 0, "received": 0, "deleted": 0}
    some = {"visible": 0, "not_visible": 1, "delayed": 1, "sent": 3, "received": 2, "deleted": 1}
    assert list(await sqs.service.metrics()) == [
        QueueCounts(queue="bills.fifo", **none),
        QueueCounts(queue="orders", **some),
    ]
