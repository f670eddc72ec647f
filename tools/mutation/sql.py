"""Mutants of an SQL statement: the same text with one small fault in it, the kind that a person makes.

A comparison that is off by one or turned round, a condition left out, an order turned round, a limit or an assignment
forgotten, a number that is one more. What SQLite does not accept is no mutant, and is left out by whoever runs them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(r"'[^']*'|\?\d*|\{\w+\}|[A-Za-z_][\w.]*|\d+|<>|<=|>=|\|\||\s+|.", re.DOTALL)
_SWAPPED = {
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "=": ("<>",),
    "<>": ("=",),
    "+": ("-",),
    "-": ("+",),
    "AND": ("OR",),
    "OR": ("AND",),
    "DESC": ("ASC",),
    "min": ("max",),
    "max": ("min",),
    "randomblob": ("zeroblob",),
    "IGNORE": ("REPLACE",),
    "REPLACE": ("IGNORE",),
}
_REWRITTEN = (
    (re.compile(r"\bIS NOT NULL\b"), "IS NULL"),
    (re.compile(r"\bIS NULL\b"), "IS NOT NULL"),
    (re.compile(r"\bIS NOT\b(?! NULL)"), "IS"),
    (re.compile(r"\bNOT EXISTS\b"), "EXISTS"),
    (re.compile(r"\bBETWEEN (\d+) AND \d+"), r"= \1"),
    (re.compile(r"\bBETWEEN \d+ AND (\d+)"), r"= \1"),
    (re.compile(r"\bLIMIT (\?\d*)"), r"LIMIT 1000000 + 0 * \1"),
    (re.compile(r"\bLIMIT \d+"), "LIMIT 1000000"),
    (re.compile(r"\bOFFSET (\?\d*)"), r"OFFSET 0 * \1"),
    (re.compile(r"\bUNION ALL\b"), "UNION"),
)
_CLAUSE_ENDS = ("ORDER", "LIMIT", "RETURNING", "GROUP", "UNION", "ON", "WHERE")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault in one statement."""

    statement: str
    """File and name: `engine.receive`."""
    change: str
    """What was changed, for people; one line."""
    sql: str
    """The text with the fault in it."""


def mutants(statement: str, sql: str) -> Iterator[Mutant]:
    """Every mutant of a statement, each text once."""
    seen = {sql}
    for change, text in _changes(sql):
        if text not in seen:
            seen.add(text)
            yield Mutant(statement, change, text)


def _changes(sql: str) -> Iterator[tuple[str, str]]:
    tokens = _TOKEN.findall(sql)
    yield from _swapped(tokens)
    yield from _rewritten(sql)
    yield from _without_conditions(tokens)
    yield from _other_order(tokens)
    yield from _without_assignments(tokens)


def _swapped(tokens: list[str]) -> Iterator[tuple[str, str]]:
    """One operator or word in the place of another, or a number that is one more."""
    for place, token in enumerate(tokens):
        if token.isdigit() and tokens[max(0, place - 2)] != "SELECT":  # SELECT 1 says nothing by its number
            others: tuple[str, ...] = (str(int(token) + 1),)
        else:
            others = _SWAPPED.get(token, ())
        for other in others:
            yield (
                f"{_around(tokens, place)}: {token} -> {other}",
                "".join([*tokens[:place], other, *tokens[place + 1 :]]),
            )


def _rewritten(sql: str) -> Iterator[tuple[str, str]]:
    """A phrase in the place of another."""
    for pattern, other in _REWRITTEN:
        for found in pattern.finditer(sql):
            new = found.expand(other)
            yield f"{_flat(found[0])} -> {new or 'nothing'}", sql[: found.start()] + new + sql[found.end() :]


def _without_conditions(tokens: list[str]) -> Iterator[tuple[str, str]]:
    """A condition of a WHERE is left out."""
    for start, end in _parts(tokens, "WHERE", "AND"):
        text = "".join(tokens[start:end])
        # its parameters stay, or SQLite would refuse the call rather than a test notice the fault
        yield f"without {_flat(text)}", "".join([*tokens[:start], f" (1 OR ({text}) IS NULL) ", *tokens[end:]])


def _other_order(tokens: list[str]) -> Iterator[tuple[str, str]]:
    """A term of an ORDER BY is left out or turned round."""
    for start, end in _parts(tokens, "BY", ","):
        text = "".join(tokens[start:end]).rstrip()
        turned = text.removesuffix(" DESC") if text.endswith(" DESC") else f"{text} DESC"
        for other in (" NULL", turned):
            yield f"ORDER BY {_flat(text)} -> {_flat(other)}", "".join([*tokens[:start], other, " ", *tokens[end:]])


def _without_assignments(tokens: list[str]) -> Iterator[tuple[str, str]]:
    """A column of a SET keeps its value."""
    for start, end in _parts(tokens, "SET", ","):
        text = "".join(tokens[start:end])
        column, _, value = (part.strip() for part in text.partition("="))
        kept = column if column.startswith("(") else f"iif(1, {column}, {value})"
        yield f"{_flat(text)} -> unchanged", "".join([*tokens[:start], f" {column} = {kept} ", *tokens[end:]])


def _parts(tokens: list[str], opens: str, separator: str) -> Iterator[tuple[int, int]]:
    """Begin and end of each part of a clause: of every `WHERE a AND b`, a and b, in parentheses of any depth."""
    for place, token in enumerate(tokens):
        if token != opens:
            continue
        start, depth, between = place + 1, 0, False
        for at in range(start, len(tokens) + 1):
            word = tokens[at] if at < len(tokens) else ";"
            if word == "(":
                depth += 1
            elif word == ")":
                depth -= 1
            between = between or (word == "BETWEEN" and depth == 0)
            ends = depth < 0 or word == ";" or (depth == 0 and word in _CLAUSE_ENDS)
            if ends or (depth == 0 and word == separator and not (between and separator == "AND")):
                yield start, at
                start = at + 1
            elif depth == 0 and word == "AND" and between:
                between = False
            if ends:
                break


def _around(tokens: list[str], place: int) -> str:
    return _flat("".join(tokens[max(0, place - 6) : place + 7]))


def _flat(text: str) -> str:
    return " ".join(text.split())
