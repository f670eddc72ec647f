"""Where a PostgreSQL is, as an address says it: `postgresql://USER@HOST:PORT/DATABASE?table=…&schema=…&declare=…`.

All else that libpq knows may be said as well, such as `sslmode=`, and what is not said is found where libpq looks:
`PGPASSWORD`, `PGPASSFILE`, `PGSERVICE` and the like. A password is better kept there than in an address.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import Literal, NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from redrive.credentials import without_credentials
from redrive.errors import DeclarationError

SCHEMES = ("postgresql:", "postgres:")
TABLE, SCHEMA = "redrive_entry", "public"
"""What they are called, unless the address says otherwise."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
"""Source: PostgreSQL's documentation, "Identifiers and Key Words": a name has at most 63 bytes."""
_OWN: tuple[str, ...] = ("table", "schema", "declare")
_OPTION = re.compile(r"[a-z_]{1,40}")

Declare = Literal["create", "verify"]
_MODES: dict[str, Declare] = {"create": "create", "verify": "verify"}


class PostgresAddress(NamedTuple):
    """What an address says."""

    url: str
    """What libpq is given, credentials and all: to be shown to nobody."""
    table: str = TABLE
    schema: str = SCHEMA
    declare: Declare | None = None
    """Whether a missing table is made or is an error; None: made at a server on this machine."""

    def __repr__(self) -> str:
        """For tracebacks: without credentials."""
        return f"PostgresAddress({self.shown!r})"

    @property
    def shown(self) -> str:
        """Where it is, without credentials, in the shortest form."""
        parts = urlsplit(self.url)
        place = f"{parts.netloc.rpartition('@')[2] or _socket(parts)}/{unquote(parts.path.removeprefix('/'))}"
        said = [("table", self.table, TABLE), ("schema", self.schema, SCHEMA)]
        query = urlencode({name: value for name, value, usual in said if value != usual})
        return f"postgresql://{place}" + (f"?{query}" if query else "")

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        parts = urlsplit(self.url)
        host = parts.hostname or _socket(parts)
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.startswith("/")

    @property
    def mode(self) -> Declare:
        """What declaring does."""
        return self.declare or ("create" if self.is_local else "verify")

    @property
    def quoted(self) -> str:
        """The table, as SQL names it."""
        return f'"{self.schema}"."{self.table}"'

    @property
    def channel(self) -> str:
        """What its notifications are sent on: a name of its own for each table."""
        return "redrive_" + hashlib.blake2b(self.quoted.encode(), digest_size=8).hexdigest()


def parsed(address: str, *, table: str = TABLE) -> PostgresAddress:
    """The parts of an address; `table` is the table's name where it says none.

    Raises:
        DeclarationError: If it is none, or what it says of the table is not known.
    """
    subject = f"store {without_credentials(address)!r}"
    parts = _split(address)
    if parts is None:
        raise DeclarationError(subject, "is no address", "use postgresql://USER@HOST:PORT/DATABASE")
    given = parse_qsl(parts.query, keep_blank_values=True)
    options = dict(given)
    if len(options) < len(given):
        raise DeclarationError(subject, "says the same twice", "say it once")
    own = {name: options.pop(name) for name in _OWN if name in options}
    _check(subject, own, options)
    url = parts._replace(scheme="postgresql", query=urlencode(options, quote_via=quote, safe="/"))
    return PostgresAddress(
        url=url.geturl() if parts.netloc else f"postgresql://{url.path}" + (f"?{url.query}" if url.query else ""),
        table=own.get("table", table),
        schema=own.get("schema", SCHEMA),
        declare=_MODES.get(own.get("declare", "")),
    )


def _split(address: str) -> SplitResult | None:
    try:
        parts = urlsplit(address)
        several = "," in parts.netloc  # libpq tries one host after the other
        good = address.startswith(tuple(f"{scheme}//" for scheme in SCHEMES)) and (several or parts.port != 0)
        good = good and "@" not in parts.path  # the end of a password with a slash in it
    except ValueError:
        return None
    return parts if good else None


def _check(subject: str, own: dict[str, str], others: dict[str, str]) -> None:
    for name in ("table", "schema"):
        if not _NAME.fullmatch(own.get(name, TABLE)):
            remedy = "use 1 to 63 of A-Z a-z 0-9 _ -"
            raise DeclarationError(f"{name} {own[name]!r} of {subject}", "is not known", remedy)
    if own.get("declare", "create") not in _MODES:
        raise DeclarationError(
            f"declare {own['declare']!r} of {subject}", "is not known", "it is one of create, verify"
        )
    if any(not _OPTION.fullmatch(name) for name in others):  # not shown: it may be the end of a password
        remedy = "write a character with a meaning of its own, such as & in a password, as % and its code: %26"
        raise DeclarationError(f"an option of {subject}", "is not known", remedy)


def _socket(parts: SplitResult) -> str:
    """The folder of a Unix socket, which libpq takes as the host; without one, libpq finds its own, on this machine."""
    return dict(parse_qsl(parts.query)).get("host", "/")
