"""The table: what it has to be, how it is made, and what is said when it is something else.

`declare` is safe to repeat and to run in several processes at once. A crash after the table was made and before its
sweep was switched on is mended by the next `create`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from redrive.errors import DeclarationError, StoreUnavailable
from redrive.stores.dynamodb.client import Calls
from redrive.stores.dynamodb.layout import DUE, EXPIRES, INDEX, PARTITION, SORT, SWEPT, after_key, due_before, only_if
from redrive.stores.dynamodb.merging import together
from redrive.stores.dynamodb.refusals import (
    DENIED,
    IN_USE,
    INVALID,
    NO_TABLE,
    Refusal,
    permission,
    problem_of,
)

Declare = Literal["create", "verify"]
_POLL, _POLLS = 0.5, 120
_PRIMARY = {PARTITION: "HASH", SORT: "RANGE"}
_BY_DUE = {PARTITION: "HASH", DUE: "RANGE"}
_PROJECTION = {"ProjectionType": "INCLUDE", "NonKeyAttributes": [EXPIRES]}
_TYPES = {PARTITION: "S", SORT: "S", DUE: "N"}
_IN_WORDS = {"S": "text", "N": "a number", "B": "bytes"}
_NOWHERE = {PARTITION: {"S": "declare/-"}, SORT: {"S": "-"}}
_NEVER = 1


def definition() -> dict[str, Any]:
    """What CreateTable is asked for: paid by the request, with an index by due time.

    The index holds keys and times, not values: these would be paid for twice with each write.
    """
    return {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": kind} for name, kind in _TYPES.items()],
        "KeySchema": _schema(_PRIMARY),
        "LocalSecondaryIndexes": [{"IndexName": INDEX, "KeySchema": _schema(_BY_DUE), "Projection": _PROJECTION}],
    }


def differences(description: dict[str, Any]) -> list[str]:
    """What a table that exists has otherwise than it must; such a thing cannot be changed later."""
    types = {one["AttributeName"]: one["AttributeType"] for one in description["AttributeDefinitions"]}
    local = {one["IndexName"]: one for one in description.get("LocalSecondaryIndexes", [])}
    found = [] if _keys(description) == _PRIMARY else [f"its key is {_said(_keys(description))}, not {_said(_PRIMARY)}"]
    if INDEX not in local:
        found.append(f"it has no local secondary index {INDEX!r} by {_said(_BY_DUE)}")
    elif _keys(local[INDEX]) != _BY_DUE:
        found.append(f"its index {INDEX!r} is by {_said(_keys(local[INDEX]))}, not {_said(_BY_DUE)}")
    elif not _projects_expiry(local[INDEX]["Projection"]):
        found.append(f"its index {INDEX!r} does not hold {EXPIRES!r}")
    return found + [
        f"{name!r} is {_IN_WORDS.get(types[name], types[name])}, not {_IN_WORDS[kind]}"
        for name, kind in _TYPES.items()
        if types.get(name, kind) != kind
    ]


class Table:
    """The table of one store."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._subject = f"table {calls.table!r} of store {calls.address!r}"

    async def declare(self, how: Declare) -> None:
        """Make the table and switch its sweep on, or only look at it; waits up to a minute for one that is being made.

        Raises:
            DeclarationError: If it is missing or differs, or a permission is missing; all that is wrong is said.
            StoreUnavailable: If DynamoDB cannot be asked.
        """
        await self._check_permissions()
        description = await self._describe()
        if description is None and how == "create":
            await self._ask("create_table", unless=IN_USE, **definition())  # IN_USE: somebody else makes it just now
            description = await self._made()
        if description is None:
            raise DeclarationError(self._subject, "does not exist", "let declare='create' make it, or make it yourself")
        if description["TableStatus"] == "CREATING":
            description = await self._made()
        if found := differences(description):
            remedy = "use a table of another name: neither keys nor local indexes can be changed"
            raise DeclarationError(self._subject, f"is not what redrive needs: {'; '.join(found)}", remedy)
        await self._declare_sweep(how)

    async def _describe(self) -> dict[str, Any] | None:
        answer = await self._ask("describe_table", unless=NO_TABLE)
        description: dict[str, Any] | None = None if answer is None else answer["Table"]
        return description

    async def _made(self) -> dict[str, Any]:
        for _ in range(_POLLS):
            description = await self._describe()  # may not know of it at once
            if description is not None and description["TableStatus"] != "CREATING":
                return description
            await asyncio.sleep(_POLL)
        raise StoreUnavailable(self._calls.address, f"its table is still being made after {_POLL * _POLLS:g} s")

    async def _declare_sweep(self, how: Declare) -> None:
        if how == "create" and await self._swept_by() is None:
            on = {"Enabled": True, "AttributeName": SWEPT}
            # INVALID: somebody else switched it on just now, or it is too soon to change it again.
            await self._ask("update_time_to_live", unless=INVALID, TimeToLiveSpecification=on)
        by = await self._swept_by()
        if by != SWEPT:
            problem = "has time to live off" if by is None else f"has time to live by {by!r}"
            remedy = f"switch it on by the attribute {SWEPT!r}; declare='create' does where it is off"
            raise DeclarationError(self._subject, problem, remedy)

    async def _swept_by(self) -> str | None:
        answer = await self._ask("describe_time_to_live") or {}
        said = answer.get("TimeToLiveDescription", {})
        on = said.get("TimeToLiveStatus") in {"ENABLED", "ENABLING"}
        return said.get("AttributeName") if on else None

    async def _check_permissions(self) -> None:
        """Make each call that looking and a store need, so that all that is forbidden is said at once, before it hurts.

        The writes have a condition that nothing meets. DynamoDB judges permissions before it looks for the table.
        """
        calls: list[tuple[str, dict[str, Any]]] = [
            ("describe_table", {}),
            ("describe_time_to_live", {}),
            ("get_item", {"Key": _NOWHERE}),
            ("batch_get_item", {}),
            ("query", {**after_key("declare/-", ""), "Limit": 1}),
            ("query", {**due_before("declare/-", 0), "Limit": 1}),
            ("put_item", {"Item": _NOWHERE, **only_if(_NEVER, 0)}),
            ("delete_item", {"Key": _NOWHERE, **only_if(_NEVER, 0)}),
        ]
        denied = await together(self._denied(operation, arguments) for operation, arguments in calls)
        if missing := {one for one in denied if one is not None}:
            raise self._forbidden(*sorted(missing))

    async def _denied(self, operation: str, arguments: dict[str, Any]) -> str | None:
        """The permission that a call lacks; what else may be wrong with it is looked at by and by."""
        try:
            if operation == "batch_get_item":
                await self._calls.fetch([_NOWHERE])
            else:
                await self._calls.call(operation, **arguments)
        except Refusal as refusal:
            return permission(refusal, operation) if refusal.code == DENIED else None
        return None

    def _forbidden(self, *permissions: str) -> DeclarationError:
        remedy = "allow that on the table and on its index/*"
        return DeclarationError(self._subject, f"does not permit {', '.join(permissions)} to its credentials", remedy)

    async def _ask(self, operation: str, *, unless: str | None = None, **arguments: Any) -> dict[str, Any] | None:  # noqa: ANN401
        """Make a call about the table; None if it is refused for the reason `unless`.

        Raises:
            DeclarationError: If it is not permitted.
            StoreUnavailable: If it is refused for any other reason.
        """
        try:
            return await self._calls.call(operation, **arguments)
        except Refusal as refusal:
            if refusal.code == unless:
                return None
            if refusal.code == DENIED:
                raise self._forbidden(permission(refusal, operation)) from refusal
            raise StoreUnavailable(self._calls.address, problem_of(refusal, operation)) from refusal


def _schema(keys: dict[str, str]) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": kind} for name, kind in keys.items()]


def _keys(description: dict[str, Any]) -> dict[str, str]:
    return {one["AttributeName"]: one["KeyType"] for one in description["KeySchema"]}


def _projects_expiry(projection: dict[str, Any]) -> bool:
    return projection["ProjectionType"] == "ALL" or EXPIRES in projection.get("NonKeyAttributes", [])


def _said(keys: dict[str, str]) -> str:
    return " and ".join(repr(name) for name in sorted(keys, key=lambda name: keys[name] != "HASH"))
