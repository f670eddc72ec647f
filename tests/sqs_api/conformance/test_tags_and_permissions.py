"""Tags and permissions, which are kept and told. `driven` says what the sources are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.sqs_api.conformance.driven import ACCOUNT, Driven, arn

OTHER = "668614515564"


async def tags(sqs: Driven) -> Any:
    return (await sqs.call("ListQueueTags", "orders")).get("Tags")


async def test_tags_come_and_go(sqs: Driven) -> None:
    """A tag may have an empty value; who has none has no `Tags`.

    Source: recorded, test_tag_untag_queue.
    """
    await sqs.create("orders")
    assert await sqs.call("ListQueueTags", "orders") == {}
    given = {"tag1": "value1", "tag2": "value2", "tag3": ""}
    assert await sqs.call("TagQueue", "orders", Tags=given) == {}
    assert await tags(sqs) == given
    assert await sqs.call("UntagQueue", "orders", TagKeys=["tag1", "tag3", "no such tag"]) == {}
    assert await tags(sqs) == {"tag2": "value2"}
    await sqs.call("UntagQueue", "orders", TagKeys=["tag2"])
    assert await sqs.call("ListQueueTags", "orders") == {}


async def test_tags_are_added_and_replaced(sqs: Driven) -> None:
    """By key, in which case counts.

    Source: recorded, test_tag_queue_overwrites_existing_tag, test_tags_case_sensitive,
    test_create_queue_with_tags.
    """
    await sqs.call("CreateQueue", QueueName="orders", tags={"tag1": "value1", "tag2": "value2"})
    await sqs.call("TagQueue", "orders", Tags={"tag1": "VALUE1", "TAG1": "value3"})
    assert await tags(sqs) == {"tag1": "VALUE1", "tag2": "value2", "TAG1": "value3"}


async def test_a_queue_has_at_most_fifty_tags(sqs: Driven) -> None:
    """Nothing is added then.

    Source: api, TagQueue; guide, Amazon SQS cost allocation tags.
    """
    await sqs.create("orders")
    await sqs.call("TagQueue", "orders", Tags={f"key{n}": "x" for n in range(50)})
    await sqs.call("TagQueue", "orders", Tags={"key1": "y"})
    problem = "InvalidParameterValue", "Too many tags added for queue orders."
    assert await sqs.refused("TagQueue", "orders", Tags={"key50": "x", "key2": "y"}) == problem
    assert len(await tags(sqs)) == 50
    assert (await tags(sqs))["key2"] == "x"


@pytest.mark.parametrize("wrong", [{"": "x"}, {"k" * 129: "x"}, {"k": "v" * 257}, {"aws:k": "x"}, {"AWS:k": "x"}])
async def test_keys_and_values_have_their_lengths(sqs: Driven, wrong: dict[str, str]) -> None:
    """128 and 256 characters, and no key of Amazon's own.

    Source: guide, Amazon SQS cost allocation tags.
    """
    await sqs.create("orders")
    await sqs.call("TagQueue", "orders", Tags={"k" * 128: "v" * 256, "k": ""})
    code, _ = await sqs.refused("TagQueue", "orders", Tags=wrong)
    assert code == "InvalidParameterValue"
    code, _ = await sqs.refused("CreateQueue", QueueName="bills", tags=wrong)
    assert code == "InvalidParameterValue"


async def test_no_tags_and_no_keys_are_refused(sqs: Driven) -> None:
    """There has to be something to do.

    Source: api, TagQueue, UntagQueue.
    """
    await sqs.create("orders")
    assert await sqs.refused("TagQueue", "orders", Tags={}) == (
        "MissingParameter",
        "The request must contain the parameter Tags.",
    )
    code, _ = await sqs.refused("UntagQueue", "orders", TagKeys=[])
    assert code == "InvalidParameterValue"


# Permissions


async def allow(sqs: Driven, label: str, *actions: str, accounts: tuple[str, ...] = (ACCOUNT,)) -> None:
    request = {"Label": label, "Actions": list(actions), "AWSAccountIds": list(accounts)}
    assert await sqs.call("AddPermission", "orders", **request) == {}


async def policy(sqs: Driven) -> Any:
    return json.loads((await sqs.attributes("orders", "Policy"))["Policy"])


def statement(label: str, action: Any, principal: Any) -> dict[str, Any]:
    return {
        "Sid": label,
        "Effect": "Allow",
        "Principal": {"AWS": principal},
        "Action": action,
        "Resource": arn("orders"),
    }


async def test_a_permission_is_a_statement_of_the_policy(sqs: Driven) -> None:
    """With the last one the policy goes.

    Source: recorded, test_sqs_permission_lifecycle.
    """
    await sqs.create("orders")
    await allow(sqs, "both", "ReceiveMessage", accounts=(OTHER, ACCOUNT))
    both = [f"arn:aws:iam::{OTHER}:root", f"arn:aws:iam::{ACCOUNT}:root"]
    assert await policy(sqs) == {
        "Version": "2008-10-17",
        "Id": f"{arn('orders')}/SQSDefaultPolicy",
        "Statement": [statement("both", "SQS:ReceiveMessage", both)],
    }
    assert await sqs.call("RemovePermission", "orders", Label="both") == {}
    assert await sqs.call("GetQueueAttributes", "orders", AttributeNames=["Policy"]) == {}


async def test_each_label_stands_once(sqs: Driven) -> None:
    """And is removed by itself.

    Source: recorded, test_sqs_permission_lifecycle.
    """
    await sqs.create("orders")
    await allow(sqs, "one", "ReceiveMessage")
    problem = "InvalidParameterValue", "Value one for parameter Label is invalid. Reason: Already exists."
    again = {"Label": "one", "Actions": ["SendMessage"], "AWSAccountIds": [OTHER]}
    assert await sqs.refused("AddPermission", "orders", **again) == problem
    await allow(sqs, "two", "SendMessage", "DeleteMessage")
    await sqs.call("RemovePermission", "orders", Label="one")
    root = f"arn:aws:iam::{ACCOUNT}:root"
    assert (await policy(sqs))["Statement"] == [statement("two", ["SQS:SendMessage", "SQS:DeleteMessage"], root)]
    other = "Value one for parameter Label is invalid. Reason: can't find label on existing policy."
    assert await sqs.refused("RemovePermission", "orders", Label="one") == ("InvalidParameterValue", other)
    await sqs.call("RemovePermission", "orders", Label="two")
    none = "Value two for parameter Label is invalid. Reason: can't find label."
    assert await sqs.refused("RemovePermission", "orders", Label="two") == ("InvalidParameterValue", none)


async def test_a_permission_joins_a_policy_that_was_set(sqs: Driven) -> None:
    """Whose one statement may stand alone.

    Source: api, AddPermission.
    """
    own = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*"}
    await sqs.create("orders", Policy=json.dumps({"Version": "2012-10-17", "Statement": own}))
    await allow(sqs, "one", "*")
    root = f"arn:aws:iam::{ACCOUNT}:root"
    expected = {"Version": "2012-10-17", "Statement": [own, statement("one", "SQS:*", root)]}
    assert await policy(sqs) == expected


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        ({"Actions": []}, "MissingParameter", "The request must contain the parameter Actions."),
        (
            {"Actions": ["CreateQueue"]},
            "InvalidParameterValue",
            (
                "Value SQS:CreateQueue for parameter ActionName is invalid. "
                "Reason: Only the queue owner is allowed to invoke this action."
            ),
        ),
        (
            {"Actions": ["SendMessageBatch"]},
            "InvalidParameterValue",
            (
                "Value SQS:SendMessageBatch for parameter ActionName is invalid. "
                "Reason: Please refer to the appropriate WSDL for a list of valid actions."
            ),
        ),
        ({"Actions": ["SendMessage"] * 8}, "OverLimit", "8 Actions were found, maximum allowed is 7."),
        (
            {"AWSAccountIds": []},
            "InvalidParameterValue",
            "Value [] for parameter PrincipalId is invalid. Reason: Unable to verify.",
        ),
        (
            {"AWSAccountIds": ["12345"]},
            "InvalidParameterValue",
            "Value [12345] for parameter PrincipalId is invalid. Reason: Unable to verify.",
        ),
    ],
)
async def test_a_permission_has_to_fit(sqs: Driven, request_: dict[str, Any], code: str, message: str) -> None:
    """The message says what does not.

    Source: quoted by moto's `test_add_permission_errors`; api, AddPermission.
    """
    await sqs.create("orders")
    request = {"Label": "one", "Actions": ["SendMessage"], "AWSAccountIds": [ACCOUNT], **request_}
    assert await sqs.refused("AddPermission", "orders", **request) == (code, message)


@pytest.mark.parametrize("label", ["", "x" * 81, "with space"])
async def test_a_label_has_1_to_80_characters(sqs: Driven, label: str) -> None:
    """Letters, digits, hyphens and underscores.

    Source: api, AddPermission.
    """
    await sqs.create("orders")
    request = {"Label": label, "Actions": ["SendMessage"], "AWSAccountIds": [ACCOUNT]}
    code, _ = await sqs.refused("AddPermission", "orders", **request)
    assert code == "InvalidParameterValue"
