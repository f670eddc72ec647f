"""The Query protocol's parameters, brought into the shape that JSON would have.

    SendMessageBatchRequestEntry.1.Id=a&SendMessageBatchRequestEntry.1.MessageBody=hello
    {"Entries": [{"Id": "a", "MessageBody": "hello"}]}

Lists come flattened (`AttributeName.1`), as old clients write them (`AttributeNames.member.1`), or, of one element,
without a number (`AttributeName`); maps likewise (`Attribute.1.Name`, `Attributes.entry.1.Name`, `Attribute.Name`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from redrive.sqs_api.calls import Refused
from redrive.sqs_api.names import Shape, Shapes, entry_names, query_name

MOST_PARAMETERS = 10_000
"""Parameters of one request; a full batch with all its attributes has under 500."""
_DEEPEST = 16
_LEAF = ""
_WRAPPERS = ("member", "entry")
_LONGEST_INDEX = 9
_NUMBER = re.compile(r"-?[0-9]{1,19}", re.ASCII)

Node = dict[str, Any]
"""What stands below one name: further nodes by their name, and its own value below the empty one."""
Former = Callable[[Node], Any]


def parameters(text: bytes) -> dict[str, str]:
    """The parameters of a query string or a form; of those that come twice, the last.

    Raises:
        Refused: If it is not UTF-8 below its percent signs, or there are too many.
    """
    if not text:
        return {}
    try:
        found = parse_qsl(text.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
    except UnicodeDecodeError:
        raise Refused("MalformedQueryString", "The query string is not UTF-8.") from None
    except ValueError:
        limit = f"The query string has over {MOST_PARAMETERS} parameters."
        raise Refused("MalformedQueryString", limit) from None
    return dict(found)


def tree(given: dict[str, str]) -> Node:
    """Parameters by the parts of their names."""
    root: Node = {}
    for name, value in given.items():
        node = root
        for part in name.split(".", _DEEPEST):
            node = node.setdefault(part, {}) if part else node
        node[_LEAF] = value
    return root


class Formers:
    """What makes JSON's shape of a tree, for each shape of a model."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._made: dict[str, Former] = {}

    def of(self, name: str) -> Former:
        """The former of a shape; it never fails: what does not fit is left for the reader to refuse."""
        if name not in self._made:
            self._made[name] = self._make(self._shapes[name])
        return self._made[name]

    def _make(self, shape: Shape) -> Former:
        match shape["type"]:
            case "structure":
                return self._structure(shape)
            case "list":
                return _listing(self.of(shape["member"]["shape"]))
            case "map":
                return _mapping(entry_names(shape), self.of(shape["value"]["shape"]))
            case "integer" | "long":
                return _integer
            case "boolean":
                return _boolean
            case _:
                return _text

    def _structure(self, shape: Shape) -> Former:
        members: list[tuple[str, str, Former]] = []
        for name, member in shape["members"].items():
            former = self.of(member["shape"])
            short = query_name(name, self._shapes[member["shape"]], self._shapes)
            members.extend((alias, name, former) for alias in dict.fromkeys((name, short)))

        def form(node: Node) -> Any:  # noqa: ANN401 - whatever JSON can say
            if _LEAF in node and len(node) == 1:
                return node[_LEAF]
            return {name: former(node[alias]) for alias, name, former in members if alias in node}

        return form


def _listing(item: Former) -> Former:
    def form(node: Node) -> list[Any]:
        numbered = _numbered(node)
        if not numbered and node.get(_LEAF):
            return [item({_LEAF: node[_LEAF]})]
        return [item(one) for one in numbered]

    return form


def _mapping(names: tuple[str, str], value: Former) -> Former:
    key, content = names

    def form(node: Node) -> Any:  # noqa: ANN401 - likewise
        found = {}
        for one in [node] if key in node else _numbered(node):
            name = _text(one[key]) if key in one else None
            if not isinstance(name, str):
                return "an entry without a key"
            found[name] = value(one[content]) if content in one else None
        return found

    return form


def _numbered(node: Node) -> list[Node]:
    """What stands below numbers, in their order."""
    for wrapper in _WRAPPERS:
        if wrapper in node:
            node = node[wrapper]
    found = [(int(name), one) for name, one in node.items() if _is_index(name)]
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def _is_index(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) <= _LONGEST_INDEX


def _text(node: Node) -> Any:  # noqa: ANN401 - likewise
    return node.get(_LEAF, node)


def _integer(node: Node) -> Any:  # noqa: ANN401 - likewise
    text = _text(node)
    return int(text) if isinstance(text, str) and _NUMBER.fullmatch(text) else text


def _boolean(node: Node) -> Any:  # noqa: ANN401 - likewise
    text = _text(node)
    return {"true": True, "false": False}.get(text, text) if isinstance(text, str) else text
