"""RedrivePolicy, RedriveAllowPolicy and Policy. `driven` says what the sources are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.sqs_api.conformance.driven import ACCOUNT, REGION, Driven, arn, redrive_policy

NO = "Amazon SQS can't create the redrive allow policy"


async def refused_policy(sqs: Driven, name: str, value: str) -> tuple[str, str]:
    """How a new queue with this policy is refused; the message without what all have in common."""
    code, message = await sqs.refused("CreateQueue", QueueName="orders", Attributes={name: value})
    return code, message.removeprefix(f"Value {value} for parameter {name} is invalid. Reason: ")


async def test_a_redrive_policy_is_told_without_spaces(sqs: Driven) -> None:
    """Its count as a number, also where it came as a text.

    Source: recorded, test_get_specific_queue_attribute_response; api, GetQueueAttributes.
    """
    await sqs.create("dead")
    await sqs.create("orders", RedrivePolicy=f'{{"maxReceiveCount": "3", "deadLetterTargetArn": "{arn("dead")}"}}')
    assert await sqs.attributes("orders", "RedrivePolicy") == {"RedrivePolicy": redrive_policy("dead", 3)}
    for count in (3, '"3"'):
        given = {"RedrivePolicy": redrive_policy("dead", count)}
        await sqs.call("CreateQueue", QueueName="orders", Attributes=given)
    code, _ = await sqs.refused(
        "CreateQueue", QueueName="orders", Attributes={"RedrivePolicy": redrive_policy("dead", 4)}
    )
    assert code == "QueueNameExists"


async def test_an_empty_redrive_policy_takes_it_back(sqs: Driven) -> None:
    """Also where there is none.

    Source: recorded, test_set_empty_redrive_policy.
    """
    _, dead = await sqs.pair("orders", most=42)
    for queue in ("orders", dead):
        await sqs.call("SetQueueAttributes", queue, Attributes={"RedrivePolicy": ""})
        assert "RedrivePolicy" not in await sqs.attributes(queue)


async def test_a_queue_may_be_its_own_dead_letter_queue(sqs: Driven) -> None:
    """Amazon takes it.

    Source: recorded, test_set_empty_redrive_policy.
    """
    await sqs.create("orders")
    await sqs.call("SetQueueAttributes", "orders", Attributes={"RedrivePolicy": redrive_policy("orders", 42)})
    assert (await sqs.attributes("orders"))["RedrivePolicy"] == redrive_policy("orders", 42)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("{}", "Redrive policy does not contain mandatory attribute: maxReceiveCount."),
        ('{"maxReceiveCount":3}', "Redrive policy does not contain mandatory attribute: deadLetterTargetArn."),
        (
            '{"deadLetterTargetArn":"x"}',
            "Redrive policy does not contain mandatory attribute: maxReceiveCount.",
        ),
        (
            '{"deadLetterTargetArn": "dummy", "maxReceiveCount": 42}',
            "Invalid value for deadLetterTargetArn.",
        ),
        ('{"deadLetterTargetArn": ["x"], "maxReceiveCount": 42}', "Invalid value for deadLetterTargetArn."),
    ],
)
async def test_what_is_no_redrive_policy_is_refused(sqs: Driven, value: str, reason: str) -> None:
    """The message quotes it and says what is wrong; the count is missed first.

    Source: recorded, test_invalid_dead_letter_arn_rejected_before_lookup; quoted, the others.
    """
    assert await refused_policy(sqs, "RedrivePolicy", value) == ("InvalidParameterValue", reason)


@pytest.mark.parametrize("value", ["x", "[]", "3", '"text"', " "])
async def test_what_is_no_json_map_is_a_wrong_attribute(sqs: Driven, value: str) -> None:
    """With a code and words of its own, which do not quote it.

    Source: quoted, an answer to SetQueueAttributes.
    """
    problem = "Invalid value for the parameter RedrivePolicy. Reason: Redrive policy is not a valid JSON map."
    assert await refused_policy(sqs, "RedrivePolicy", value) == ("InvalidAttributeValue", problem)


@pytest.mark.parametrize("count", ["0", "1001", "-36", '"x"', "1.5", "true", "null", '"٣"'])
async def test_receives_are_1_to_1000(sqs: Driven, count: str) -> None:
    """As a number or as a text.

    Source: quoted, an answer to CreateQueue; api, SetQueueAttributes.
    """
    await sqs.create("dead")
    code, message = await refused_policy(sqs, "RedrivePolicy", redrive_policy("dead", count))
    assert code == "InvalidParameterValue"
    assert message == (
        f"Invalid value for maxReceiveCount: {json.loads(count)}, valid values are from 1 to 1000 both inclusive."
    )


@pytest.mark.parametrize(
    "target",
    [
        arn("nowhere"),
        arn("dead").replace(ACCOUNT, "222222222222"),
        arn("dead").replace(REGION, "us-west-2"),
        arn("dead.fifo"),
    ],
)
async def test_a_dead_letter_queue_has_to_be_there(sqs: Driven, target: str) -> None:
    """In the same account and region.

    Source: quoted, an answer to CreateQueue; api, SetQueueAttributes.
    """
    await sqs.create("dead")
    value = json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": 3})
    expected = "InvalidParameterValue", "Dead letter target does not exist."
    assert await refused_policy(sqs, "RedrivePolicy", value) == expected


async def test_a_dead_letter_queue_is_of_the_same_kind(sqs: Driven) -> None:
    """The sentence ends twice.

    Source: quoted, an answer to CreateQueue.
    """
    await sqs.create("dead.fifo")
    expected = "InvalidParameterValue", "Dead-letter queue must be same type of queue as the source.."
    assert await refused_policy(sqs, "RedrivePolicy", redrive_policy("dead.fifo", 3)) == expected


# RedriveAllowPolicy


async def test_a_dead_letter_queue_says_whose_it_is(sqs: Driven) -> None:
    """All, none, or up to ten queues.

    Source: api, SetQueueAttributes.
    """
    by_queue = json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [arn("orders")]})
    await sqs.create("dead", RedriveAllowPolicy=by_queue)
    assert json.loads((await sqs.attributes("dead"))["RedriveAllowPolicy"]) == json.loads(by_queue)
    await sqs.create("orders", RedrivePolicy=redrive_policy("dead", 3))
    given = {"RedrivePolicy": redrive_policy("dead", 3)}
    code, _ = await sqs.refused("CreateQueue", QueueName="bills", Attributes=given)
    assert code == "InvalidParameterValue"
    await sqs.call("SetQueueAttributes", "dead", Attributes={"RedriveAllowPolicy": '{"redrivePermission":"allowAll"}'})
    assert await sqs.attributes("dead", "RedriveAllowPolicy") == {
        "RedriveAllowPolicy": '{"redrivePermission":"allowAll"}'
    }
    await sqs.call("CreateQueue", QueueName="bills", Attributes=given)
    await sqs.call("SetQueueAttributes", "dead", Attributes={"RedriveAllowPolicy": '{"redrivePermission":"denyAll"}'})
    assert await sqs.attributes("dead", "RedriveAllowPolicy") == {
        "RedriveAllowPolicy": '{"redrivePermission":"denyAll"}'
    }
    code, _ = await sqs.refused("CreateQueue", QueueName="more", Attributes=given)
    assert code == "InvalidParameterValue"
    await sqs.call("SetQueueAttributes", "dead", Attributes={"RedriveAllowPolicy": ""})
    assert "RedriveAllowPolicy" not in await sqs.attributes("dead")
    await sqs.call("CreateQueue", QueueName="more", Attributes=given)


@pytest.mark.parametrize(
    "value",
    [
        "x",
        "[]",
        "{}",
        '{"redrivePermission":"some"}',
        '{"redrivePermission":["allowAll"]}',
        '{"redrivePermission":"byQueue","sourceQueueArns":"x"}',
        '{"redrivePermission":"byQueue","sourceQueueArns":[1]}',
    ],
)
async def test_what_is_no_allow_policy_is_refused(sqs: Driven, value: str) -> None:
    """Whatever is wrong with its form, in the same words.

    Source: quoted, an answer to CreateQueue.
    """
    problem = f"Invalid value for the parameter RedriveAllowPolicy. Reason: {NO}, as it's in an unsupported format."
    assert await refused_policy(sqs, "RedriveAllowPolicy", value) == ("InvalidAttributeValue", problem)


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (
            {"redrivePermission": "denyAll", "sourceQueueArns": [arn("a")]},
            "To specify one or more source queue ARNs, you must set redrivePermission to byQueue.",
        ),
        (
            {"redrivePermission": "byQueue"},
            "When you specify the byQueue permission type, you must also specify one or more sourceQueueArns values.",
        ),
        (
            {"redrivePermission": "byQueue", "sourceQueueArns": []},
            "When you specify the byQueue permission type, you must also specify one or more sourceQueueArns values.",
        ),
        (
            {"redrivePermission": "byQueue", "sourceQueueArns": [arn(f"q{n}") for n in range(11)]},
            "The maximum number of source queue ARNs you can specify is 10.",
        ),
    ],
)
async def test_sources_go_with_by_queue(sqs: Driven, policy: dict[str, Any], reason: str) -> None:
    """One to ten of them.

    Source: quoted, answers to CreateQueue; api, SetQueueAttributes.
    """
    ten = {"redrivePermission": "byQueue", "sourceQueueArns": [arn(f"q{n}") for n in range(10)]}
    await sqs.create("dead", RedriveAllowPolicy=json.dumps(ten))
    found = await refused_policy(sqs, "RedriveAllowPolicy", json.dumps(policy))
    assert found == ("InvalidParameterValue", f"{NO}. {reason}")


async def test_sources_of_the_other_kind_are_told_as_they_were_given(sqs: Driven) -> None:
    """They could not have a queue of this kind for their dead letters anyway; nothing else is let in.

    Source: api, SetQueueAttributes: no rule on the kinds of `sourceQueueArns`.
    """
    for sources in (["orders", "orders.fifo"], ["orders.fifo"]):
        policy = {"redrivePermission": "byQueue", "sourceQueueArns": [arn(one) for one in sources]}
        dead = f"dead-{len(sources)}"
        await sqs.create(dead, RedriveAllowPolicy=json.dumps(policy))
        assert json.loads((await sqs.attributes(dead))["RedriveAllowPolicy"]) == policy
        await sqs.call("SetQueueAttributes", dead, Attributes={"DelaySeconds": "1"})
        assert json.loads((await sqs.attributes(dead))["RedriveAllowPolicy"]) == policy
        code, _ = await sqs.refused(
            "CreateQueue", QueueName="other", Attributes={"RedrivePolicy": redrive_policy(dead, 3)}
        )
        assert code == "InvalidParameterValue"
        await sqs.call("SetQueueAttributes", dead, Attributes={"RedriveAllowPolicy": '{"redrivePermission":"denyAll"}'})
        assert json.loads((await sqs.attributes(dead))["RedriveAllowPolicy"]) == {"redrivePermission": "denyAll"}


async def test_a_queue_whose_dead_letter_queue_was_deleted_can_be_set(sqs: Driven) -> None:
    """All but the policy itself, which has to name a queue that is there.

    Source: api, DeleteQueue: a dead-letter queue is deleted as any other, and its sources stay as they are.
    """
    await sqs.create("dead")
    await sqs.create("orders", RedrivePolicy=redrive_policy("dead", 3))
    await sqs.call("DeleteQueue", "dead")
    await sqs.call("SetQueueAttributes", "orders", Attributes={"VisibilityTimeout": "7", "DelaySeconds": "1"})
    found = await sqs.attributes("orders", "All")
    assert (found["VisibilityTimeout"], found["DelaySeconds"]) == ("7", "1")
    assert found["RedrivePolicy"] == redrive_policy("dead", 3)
    code, _ = await sqs.refused("SetQueueAttributes", "orders", Attributes={"RedrivePolicy": redrive_policy("dead", 4)})
    assert code == "InvalidParameterValue"
    await sqs.call("SetQueueAttributes", "orders", Attributes={"RedrivePolicy": ""})
    assert "RedrivePolicy" not in await sqs.attributes("orders", "All")


# Policy


POLICY = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sqs:SendMessage"}]}'


async def test_a_policy_is_kept_and_told(sqs: Driven) -> None:
    """An empty one takes it back.

    Source: recorded, test_set_queue_policy, test_set_empty_queue_policy.
    """
    await sqs.create("orders")
    for names in (["All"], ["Policy"]):
        await sqs.call("SetQueueAttributes", "orders", Attributes={"Policy": POLICY})
        assert json.loads((await sqs.attributes("orders", *names))["Policy"]) == json.loads(POLICY)
        await sqs.call("SetQueueAttributes", "orders", Attributes={"Policy": ""})
        assert "Policy" not in await sqs.attributes("orders", "All")


@pytest.mark.parametrize(
    "value", ["x", "[]", "3", '{"Statement":"all"}', '{"Statement":["all"]}', '{"Statement":null}']
)
async def test_what_is_no_policy_is_refused(sqs: Driven, value: str) -> None:
    """Statements have to be JSON objects.

    Source: quoted, an answer to SetQueueAttributes.
    """
    expected = "InvalidAttributeValue", "Invalid value for the parameter Policy."
    assert await refused_policy(sqs, "Policy", value) == expected
