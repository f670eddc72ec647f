"""What the Query protocol calls things, told from the model.

SQS's model spoke Query once, and its names follow a rule: where JSON says `Entries`, Query says the name of one entry's
shape; where JSON says `AttributeNames`, Query says `AttributeName`, once for each. Source: the model of SQS as botocore
shipped it for the Query protocol; the tests compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Shape = Mapping[str, Any]
Shapes = Mapping[str, Shape]

_EXCEPTION = {"Actions": "ActionName"}


def query_name(member: str, shape: Shape, shapes: Shapes) -> str:
    """What Query calls one element of a member that is a list or a map; of anything else, the member itself."""
    if shape["type"] not in {"list", "map"}:
        return member
    if shape["type"] == "list":
        item = shape["member"]["shape"]
        if shapes[item]["type"] == "structure":
            return str(item)
    return _EXCEPTION.get(member) or member[0].upper() + member[1:].removesuffix("s")


def entry_names(shape: Shape) -> tuple[str, str]:
    """What Query calls the key and the value of a map."""
    return ("Key" if shape["key"]["shape"] == "TagKey" else "Name"), "Value"
