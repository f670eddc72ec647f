"""Answers as XML, by writers made from the model once."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any

from redrive.sqs_api.names import Shape, Shapes, entry_names, query_name

NAMESPACE = "http://queue.amazonaws.com/doc/2012-11-05/"
_HEAD = '<?xml version="1.0"?>'
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot say, not even escaped. Source: XML 1.0, production 2."""
_SPECIAL = re.compile('[&<>"\r]')
_ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#xD;"}

Writer = Callable[[str, Any, list[str]], None]
"""Write a value below a name, at the end of the parts."""


def escaped(text: str) -> str:
    """Text between tags; what XML cannot say becomes U+FFFD, so that the rest of an answer can be read."""
    if not text.isascii() or not text.isprintable():
        text = _FORBIDDEN.sub("\ufffd", text)
    return _SPECIAL.sub(lambda found: _ESCAPED[found[0]], text)


def answer(operation: str, result: str | None, request_id: str) -> bytes:
    """The whole document; `result` is None where the operation has nothing to say."""
    inside = "" if result is None else f"<{operation}Result>{result}</{operation}Result>"
    return (
        f'{_HEAD}<{operation}Response xmlns="{NAMESPACE}">{inside}'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation}Response>"
    ).encode()


def error(fault: str, code: str, message: str, request_id: str) -> bytes:
    """The whole document of an error."""
    return (
        f'{_HEAD}<ErrorResponse xmlns="{NAMESPACE}"><Error><Type>{fault}</Type><Code>{escaped(code)}</Code>'
        f"<Message>{escaped(message)}</Message><Detail/></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    ).encode()


class Writers:
    """The writers of a model's shapes, each made when it is first asked for."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._made: dict[str, Writer] = {}

    def result(self, name: str) -> Callable[[Mapping[str, Any]], str]:
        """What writes an operation's output, without the tags around it."""
        members = self._members(self._shapes[name])

        def write(value: Mapping[str, Any]) -> str:
            parts: list[str] = []
            _write_members(members, value, parts)
            return "".join(parts)

        return write

    def _of(self, name: str) -> Writer:
        if name not in self._made:
            self._made[name] = self._make(self._shapes[name])
        return self._made[name]

    def _make(self, shape: Shape) -> Writer:
        match shape["type"]:
            case "structure":
                return _structure(self._members(shape))
            case "list":
                return _listing(self._of(shape["member"]["shape"]))
            case "map":
                return _mapping(entry_names(shape), self._of(shape["value"]["shape"]))
            case "blob":
                return _blob
            case "boolean":
                return _boolean
            case _:
                return _text

    def _members(self, shape: Shape) -> list[tuple[str, str, Writer]]:
        return [
            (name, query_name(name, self._shapes[member["shape"]], self._shapes), self._of(member["shape"]))
            for name, member in shape["members"].items()
        ]


def _write_members(members: list[tuple[str, str, Writer]], value: Mapping[str, Any], parts: list[str]) -> None:
    for name, tag, writer in members:
        if (inner := value.get(name)) is not None:
            writer(tag, inner, parts)


def _structure(members: list[tuple[str, str, Writer]]) -> Writer:
    def write(tag: str, value: Mapping[str, Any], parts: list[str]) -> None:
        parts.append(f"<{tag}>")
        _write_members(members, value, parts)
        parts.append(f"</{tag}>")

    return write


def _listing(item: Writer) -> Writer:
    def write(tag: str, value: list[Any], parts: list[str]) -> None:
        for one in value:
            item(tag, one, parts)

    return write


def _mapping(names: tuple[str, str], item: Writer) -> Writer:
    key_tag, value_tag = names

    def write(tag: str, value: Mapping[str, Any], parts: list[str]) -> None:
        for key, one in value.items():
            parts.append(f"<{tag}><{key_tag}>{escaped(key)}</{key_tag}>")
            item(value_tag, one, parts)
            parts.append(f"</{tag}>")

    return write


def _text(tag: str, value: object, parts: list[str]) -> None:
    parts.append(f"<{tag}>{escaped(str(value))}</{tag}>")


def _boolean(tag: str, value: object, parts: list[str]) -> None:
    parts.append(f"<{tag}>{'true' if value else 'false'}</{tag}>")


def _blob(tag: str, value: bytes, parts: list[str]) -> None:
    parts.append(f"<{tag}>{base64.b64encode(value).decode()}</{tag}>")
