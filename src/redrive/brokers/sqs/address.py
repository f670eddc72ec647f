"""Where an Amazon SQS is, as an address says it: `sqs://REGION?endpoint_url=…&declare=…&…`."""

from __future__ import annotations

import ipaddress
import re
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from redrive.credentials import without_credentials
from redrive.errors import DeclarationError

SCHEME = "sqs:"
TABLE = "redrive"
"""Name of the store's table, unless the address says another."""
_OPTIONS = ("endpoint_url", "store_url", "table", "declare", "account", "prefix")
_SQLITE = "sqlite:"
_POSTGRES = ("postgresql:", "postgres:")
_REGION = re.compile(r"[a-z0-9-]*")
_ACCOUNT = re.compile(r"\d{12}|")
_PREFIX = re.compile(r"[A-Za-z0-9_-]{0,40}")
_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}")
"""Source: Amazon DynamoDB developer guide, "Naming rules"."""

Mode = Literal["create", "verify"]


class SqsAddress(NamedTuple):
    """What an address says; `str` gives it in its shortest form. It holds no credentials: botocore finds them."""

    region: str = ""
    """Empty: as botocore's configuration says."""
    endpoint_url: str | None = None
    """Another endpoint than Amazon's: `redrive serve`, or a stand-in for tests."""
    store_url: str | None = None
    """Another endpoint for the store; None: `endpoint_url` is DynamoDB's too. Where that is on this machine, it may be
    a file: `sqlite:FILE`. Or, anywhere, a PostgreSQL: `postgresql://…`, in which `&` is written `%26`."""
    table: str = TABLE
    """The DynamoDB table of the store; unless given, `redrive` behind the prefix: what is apart stays apart."""
    declare: Mode | None = None
    """Whether missing queues are made or are an error; None: made at an endpoint on this machine."""
    account: str = ""
    """Whose queues; empty: those of the credentials."""
    prefix: str = ""
    """Stands before the name of each queue, so that several deployments can share an account."""

    def __str__(self) -> str:
        given = [f"{name}={quote(value, safe=':/[]')}" for name, value in self._options() if value]
        return f"{SCHEME}//{self.region}" + (f"?{'&'.join(given)}" if given else "")

    @property
    def is_local(self) -> bool:
        """Whether its endpoint is on this machine."""
        return _is_loopback(self.endpoint_url)

    @property
    def store_in_a_file(self) -> str | None:
        """The address of the embedded store; None: the store is DynamoDB."""
        return self.store_url if (self.store_url or "").startswith(_SQLITE) else None

    @property
    def store_on_postgres(self) -> str | None:
        """The address of the store on PostgreSQL, with its credentials; None: it is another one."""
        return self.store_url if (self.store_url or "").startswith(_POSTGRES) else None

    @property
    def shown(self) -> SqsAddress:
        """The same without credentials, which only an address of PostgreSQL can hold."""
        return self._replace(store_url=self.store_url and without_credentials(self.store_url))

    @property
    def store_endpoint(self) -> str | None:
        """The endpoint of the store."""
        return self.store_url or self.endpoint_url

    @property
    def store_is_local(self) -> bool:
        """Whether that is on this machine."""
        return _is_loopback(self.store_endpoint)

    @property
    def mode(self) -> Mode:
        """What declaring does."""
        return self.declare or ("create" if self.is_local else "verify")

    def _options(self) -> list[tuple[str, str | None]]:
        table = None if self.table == self.prefix + TABLE else self.table
        values = (self.endpoint_url, self.store_url, table, self.declare, self.account, self.prefix)
        return list(zip(_OPTIONS, values, strict=True))


def parsed(address: str) -> SqsAddress:
    """The parts of an address.

    Raises:
        DeclarationError: If it is none of Amazon SQS, or an option or its value is not known.
    """
    place, _, query = address.removeprefix(SCHEME).partition("?")
    shown = without_credentials(address)
    if not address.startswith(f"{SCHEME}//") or not _REGION.fullmatch(place[2:]):
        raise DeclarationError(f"broker {shown!r}", "is not known", "use sqs://REGION, like sqs://eu-central-1")
    given = parse_qsl(query, keep_blank_values=True)
    options = dict(given)
    if len(options) < len(given):
        raise DeclarationError(f"broker {shown!r}", "says the same twice", "say it once")
    if unknown := [name for name in options if name not in _OPTIONS]:
        remedy = f"it takes {', '.join(_OPTIONS)}"
        if shown != address:  # it may be the end of a password
            remedy += "; in store_url, write & as %26"
            raise DeclarationError(f"an option of broker {shown!r}", "is not known", remedy)
        raise DeclarationError(f"option {unknown[0]!r} of broker {shown!r}", "is not known", remedy)
    return _checked(shown, place[2:], options)


def _checked(address: str, region: str, options: dict[str, str]) -> SqsAddress:
    in_a_file = options.get("store_url", "").startswith(_SQLITE)
    on_postgres = options.get("store_url", "").startswith(_POSTGRES)
    if on_postgres and "table" in options:
        remedy = "say it in store_url: postgresql://HOST/DATABASE?table=NAME"
        raise DeclarationError(f"table {options['table']!r} of broker {address!r}", "is one of DynamoDB's", remedy)
    for name in ("endpoint_url",) if in_a_file or on_postgres else ("endpoint_url", "store_url"):
        if name in options:
            _check_endpoint(address, name, options[name])
    if in_a_file and not _is_loopback(options.get("endpoint_url")):
        subject = f"store_url {options['store_url']!r} of broker {address!r}"
        remedy = "leave it out, and the store is DynamoDB; a file will do where endpoint_url is on this machine"
        raise DeclarationError(subject, "is seen by this machine alone, and the broker by others", remedy)
    for name, allowed, remedy in (
        ("table", _TABLE, "use 3 to 255 of A-Z a-z 0-9 _ . -"),
        ("declare", re.compile("create|verify"), "it is one of create, verify"),
        ("account", _ACCOUNT, "use the 12 digits of an AWS account"),
        ("prefix", _PREFIX, "use at most 40 of A-Z a-z 0-9 _ -"),
    ):
        value = options.get(name)
        if value is not None and not allowed.fullmatch(value):
            raise DeclarationError(f"{name} {value!r} of broker {address!r}", "is not known", remedy)
    return SqsAddress(
        region=region,
        endpoint_url=_url(options.get("endpoint_url")),
        store_url=_url(options.get("store_url")),
        table=options.get("table", options.get("prefix", "") + TABLE),
        declare=_MODES.get(options.get("declare", "")),
        account=options.get("account", ""),
        prefix=options.get("prefix", ""),
    )


_MODES: dict[str, Mode] = {"create": "create", "verify": "verify"}


def _url(text: str | None) -> str | None:
    return None if text is None else text.rstrip("/")


def _check_endpoint(address: str, name: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, good = None, False
    if parts is not None and ("@" in parts.netloc):
        remedy = "give them as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in AWS's own files"
        raise DeclarationError(f"the {name} of a broker", "holds credentials", remedy)  # which are not shown
    if not good:
        subject = f"{name} {url!r} of broker {address!r}"
        raise DeclarationError(subject, "is no address", "use http://HOST:PORT or https://HOST")


def _is_loopback(url: str | None) -> bool:
    host = urlsplit(url or "").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
