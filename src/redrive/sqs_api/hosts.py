"""Who may reach an endpoint that checks no signatures: this machine's programs, and no web page.

A page in a browser on this machine can send requests to loopback addresses, by a name of its own that it lets point
here (DNS rebinding), or across origins. So, without keys, an endpoint is bound to loopback only, answers only to names
that are this machine's own, and refuses what a browser says comes from a page. With keys, the signature decides.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping

from redrive.errors import ConfigurationError, DeclarationError, OperationRefused
from redrive.sqs_api.calls import Refused
from redrive.sqs_api.signatures import VARIABLE

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_PUBLIC = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#@]+)/?", re.ASCII | re.IGNORECASE)
_FROM_NO_PAGE = (b"none", b"same-origin")
_MOST_REMEMBERED = 1_000
_BACKLOG = 1_024


class Hosts:
    """The names to which an endpoint answers."""

    def __init__(self, bound: str, *, signed: bool, public_url: str | None = None) -> None:
        """Remember what is allowed.

        Args:
            bound: the host that the endpoint is bound to.
            signed: whether signatures are checked, so that any name will do.
            public_url: where clients find it, `https://sqs.example.net`, if that is not where they ask.

        Raises:
            DeclarationError: If that is no such address, or others would find it there and nothing is signed.
        """
        self._bound, self._signed = bound.lower(), signed
        self._public: str | None = None
        self._public_name: str | None = None
        if public_url is not None:
            self._public, self._public_name = public_parts(public_url, signed=signed)
        self._known: dict[bytes, str] = {}

    def base_url(self, headers: Mapping[bytes, bytes]) -> str:
        """Where the client finds the endpoint's queues: where it asked, unless they have a public address.

        Raises:
            Refused: If it may not be found there, or a web page asks.
        """
        if not self._signed:
            _refuse_pages(headers)
        host = headers.get(b"host", b"")
        found = self._known.get(host)
        if found is None:
            found = self._checked(host.decode("latin-1"))
            if len(self._known) < _MOST_REMEMBERED:
                self._known[host] = found
        return found

    def _checked(self, host: str) -> str:
        match = _HOST.fullmatch(host)
        if match is None:
            raise Refused("InvalidAddress", "The request does not say in its Host header where it goes.")
        name = match["name"].strip("[]").lower()
        if not self._signed and not (is_loopback(name) or name in {self._bound, self._public_name}):
            raise Refused(
                "InvalidAddress",
                f"The address http://{host}/ is not valid for this endpoint: without {VARIABLE} it answers only to "
                f"localhost, loopback addresses and {self._bound}.",
            )
        return self._public or f"http://{host}"


def public_parts(url: str, *, signed: bool) -> tuple[str, str]:
    """A public address without a slash at its end, and the name in it.

    Raises:
        DeclarationError: If it is none, or others would find the endpoint there and no signature is asked of them.
    """
    match = _PUBLIC.fullmatch(url)
    host = None if match is None else _HOST.fullmatch(match["host"])
    if match is None or host is None:
        problem = "is no address of an endpoint"
        raise DeclarationError(f"public URL {url!r}", problem, "write it like https://sqs.example.net, without a path")
    name = host["name"].strip("[]").lower()
    if not signed and not is_loopback(name):
        raise _exposed(f"public URL {url!r}", f"set {VARIABLE}=ID:SECRET")
    return f"{match['scheme'].lower()}://{match['host']}", name


def is_loopback(name: str) -> bool:
    """Whether a host name or address is this machine's own loopback, by its looks."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int, *, signed: bool) -> socket.socket:
    """Take the address; port 0 is any free one.

    Raises:
        ConfigurationError: If others could reach it, and no signature is asked of them.
        OperationRefused: If it cannot be had.
    """
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio sets it for others' sockets alone
    except (OSError, UnicodeError) as error:
        problem = f"cannot be listened on ({getattr(error, 'strerror', None) or error})"
        remedy = "stop what listens there, or choose another by --host and --port (of `redrive dev`: --sqs-port)"
        raise OperationRefused(f"address {shown!r}", problem, remedy) from None
    if not signed and not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
        listener.close()
        raise _exposed(f"address {shown!r}", f"set {VARIABLE}=ID:SECRET, or listen on 127.0.0.1")
    return listener


def _exposed(subject: str, remedy: str) -> ConfigurationError:
    return DeclarationError(subject, "can be reached by others, and no signature would be asked of them", remedy)


def _refuse_pages(headers: Mapping[bytes, bytes]) -> None:
    """Source: Fetch standard, `Origin`; Fetch Metadata Request Headers, `Sec-Fetch-Site`."""
    if b"origin" in headers or headers.get(b"sec-fetch-site", b"none") not in _FROM_NO_PAGE:
        raise Refused("AccessDenied", f"A web page may not call this endpoint without signing; set {VARIABLE}.")
