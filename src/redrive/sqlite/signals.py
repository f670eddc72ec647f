"""Waking those who wait for messages, in this process and in others that share the file.

A commit that made messages ready fires the names of their queues. Local waiters are woken by an event; other processes
by a datagram to each socket in a folder beside the file. A lost datagram costs nothing but time: who waits looks again
after `BACKSTOP` seconds. (Polling fast enough to be prompt costs 2 % of a core.)
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from redrive.sqlite.turn import belongs_to_the_owner_of

BACKSTOP = 1.0
"""Seconds after which a waiter looks for itself."""
_LONGEST_SOCKET_PATH = 90
_LONGEST_DATAGRAM = 2048
_ALL = b"*"
_IS_ANYBODY_THERE = b""
_TRIES = 10


class Signals:
    """Events by queue name. Safe from every thread and loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}

    @contextlib.contextmanager
    def listening(self, name: str) -> Iterator[asyncio.Event]:
        """An event of the running loop that is set whenever the queue may have something."""
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._waiters.setdefault(name, set()).add(waiter)
        try:
            yield waiter[1]
        finally:
            with self._lock:
                self._waiters[name].discard(waiter)

    def fire(self, names: Iterable[str] | None = None) -> None:
        """Wake the waiters of these queues; None: all of them."""
        with self._lock:
            chosen = self._waiters if names is None else [name for name in names if name in self._waiters]
            waiters = [waiter for name in chosen for waiter in self._waiters[name]]
        for loop, event in waiters:
            with contextlib.suppress(RuntimeError):  # its loop has closed meanwhile
                loop.call_soon_threadsafe(event.set)


class Neighbours:
    """The other processes on the same file: tells them what became ready, and hears it from them."""

    def __init__(self, path: str, signals: Signals) -> None:
        """Begin to listen.

        Raises:
            OSError: If there can be no folder of sockets beside the file, or it is not ours alone.
        """
        self._signals = signals
        self._folder, self._receiver, self._own = _listening(path)
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self._closing = False
        self._thread = threading.Thread(target=self._listen, name="redrive-wake", daemon=True)
        self._thread.start()

    def anybody(self) -> bool:
        """Whether another process listens."""
        return any(self._send(self._folder / peer, _IS_ANYBODY_THERE) for peer in self._peers())

    def tell(self, names: Iterable[str]) -> None:
        """Send the names to every other socket in the folder; one whose process is gone is removed."""
        text = "\n".join(names).encode()
        datagram = text if len(text) <= _LONGEST_DATAGRAM else _ALL
        for peer in self._peers():
            self._send(self._folder / peer, datagram)

    def close(self) -> None:
        """Stop listening; the last one takes the folder away."""
        self._closing = True
        self._send(self._own, b"")
        with contextlib.suppress(OSError):  # where the socket's name is gone, so is the way to it
            self._receiver.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=5)
        self._receiver.close()
        self._sender.close()
        self._own.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others are in it
            self._folder.rmdir()

    def _peers(self) -> list[str]:
        try:
            names = os.listdir(self._folder)  # noqa: PTH208 - once a commit: names, no Path objects
        except OSError:
            return []  # somebody tidied it away: backstops find the messages
        return [name for name in names if name != self._own.name]

    def _send(self, peer: Path, datagram: bytes) -> bool:
        """Whether somebody listens there."""
        try:
            self._sender.sendto(datagram, os.fspath(peer))
        except ConnectionRefusedError:
            peer.unlink(missing_ok=True)
            return False
        except BlockingIOError:
            return True  # it has more to read than it can hold: it wakes anyway
        except OSError:
            return False  # just gone
        return True

    def _listen(self) -> None:
        while not self._closing:
            datagram = self._receiver.recv(4096)
            self._signals.fire(None if datagram == _ALL else datagram.decode("utf-8", "replace").split("\n"))


def _listening(path: str) -> tuple[Path, socket.socket, Path]:
    """The folder, a socket in it, and the socket's name."""
    for tries_left in reversed(range(_TRIES)):
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            folder = _folder_for(path)
            own = folder / f"{os.getpid()}-{os.urandom(4).hex()}"  # a killed process of this number left its own
            _bind(receiver, own)
        except OSError as error:
            receiver.close()
            just_gone = isinstance(error, FileNotFoundError | FileExistsError)  # the last one out took the folder away
            if not just_gone or not tries_left:
                raise
        else:
            return folder, receiver, own
    raise AssertionError


def _bind(receiver: socket.socket, own: Path) -> None:
    try:
        receiver.bind(os.fspath(own))
    except OSError as error:
        error.filename = os.fspath(own.parent)  # the system does not say
        raise


def _folder_for(path: str) -> Path:
    """The folder of sockets beside the file, or in the temporary folder where a socket's path would be too long.

    Everybody may write to the temporary folder: what stands there under our name has to be ours.
    """
    beside = Path(f"{Path(path).resolve()}-wake")
    if len(os.fspath(beside)) <= _LONGEST_SOCKET_PATH - 30:
        beside.mkdir(mode=0o700, exist_ok=True)
        belongs_to_the_owner_of(path, os.fspath(beside))
        return beside
    digest = hashlib.blake2b(os.fspath(beside).encode(), digest_size=8).hexdigest()
    away = Path(tempfile.gettempdir()) / f"redrive-{os.getuid()}-{digest}"
    away.mkdir(mode=0o700, exist_ok=True)
    found = away.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(1, "is not a folder of ours alone; remove it, or set TMPDIR", os.fspath(away))
    return away
