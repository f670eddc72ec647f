"""Servers for tests, benchmarks and development: private ones, on loopback, ended with whoever started them.

    python -m tools.services        a PostgreSQL until Ctrl-C; its address on standard output

Whoever starts them may be root; they are not: they run as whom the system has for them, or else as `nobody`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

USER, PASSWORD = "redrive", "a password"
"""Who the server knows. The password is asked for over TCP, so that what needs one is seen to give it."""
_PATIENCE = 60.0
_DURABLE = ("--fsync=on", "--synchronous_commit=on", "--full_page_writes=on")
_FLEETING = ("--fsync=off", "--full_page_writes=off")


class Missing(Exception):
    """A server that is not installed, or does not start here; the text says which and why."""


class Postgres:
    """One PostgreSQL with its data in `folder`. Every call blocks until it is done."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        """Make its data.

        Args:
            folder: a new one, which whom the server runs as can come to.
            durable: whether it syncs; without, a power cut takes its data, and a killed server loses nothing.

        Raises:
            Missing: If there is no PostgreSQL.
        """
        self._programs, self._folder, self._durable = _programs(), folder, durable
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            shutil.chown(folder, _unprivileged())
        secret = folder / "password"
        secret.write_text(PASSWORD, "utf-8")
        secret.chmod(0o644)
        program, data = str(self._programs / "initdb"), str(folder / "data")
        asked = ["--auth-host=scram-sha-256", "--auth-local=trust", f"--username={USER}", f"--pwfile={secret}"]
        self._done([program, "--pgdata", data, *asked, "--encoding=UTF8", "--no-locale", "--no-sync"])

    @property
    def url(self) -> str:
        """Its address, with the password."""
        return f"postgresql://{USER}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, after a kill too; it answers when this returns.

        Raises:
            Missing: If it does not start.
        """
        settings = [f"--port={self.port}", "--listen_addresses=127.0.0.1", f"--unix_socket_directories={self._folder}"]
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data"), *settings]
        command += _DURABLE if self._durable else _FLEETING
        deadline = time.monotonic() + _PATIENCE
        while not self._started(command, deadline):
            time.sleep(0.05)

    def kill(self) -> None:
        """End all of its processes by SIGKILL, as the system does when memory runs out."""
        if (process := self._process) is None:
            return
        self.pause()  # it would start new ones meanwhile
        for child in _children(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()
        self._process = None

    def pause(self) -> None:
        """Stop all of its processes by SIGSTOP: connections stand, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it in order, and its connections with it; stopping again is fine."""
        if (process := self._process) is None:
            return
        self.resume()
        process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            for pid in (self._process.pid, *_children(self._process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def _started(self, command: Sequence[str], deadline: float) -> bool:
        """Whether it answers; not while killed processes, which the system is still ending, hold its memory."""
        log = self._folder / "log"
        with log.open("wb") as output:
            process = self._process = subprocess.Popen(  # noqa: S603 - the server's own program
                command,
                **self._circumstances(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        asked = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(asked, check=False).returncode != 0:  # noqa: S603 - the server's own program
            ended, late = process.poll() is not None, time.monotonic() > deadline
            if ended and not late and "pre-existing shared memory block" in log.read_text("utf-8"):
                return False
            if ended or late:
                raise Missing(f"PostgreSQL does not start: {log.read_text('utf-8')[-300:]}")
            time.sleep(0.05)
        return True

    def _done(self, command: Sequence[str]) -> None:
        step = subprocess.run(  # noqa: S603 - the server's own program
            command, **self._circumstances(), capture_output=True, text=True, check=False
        )
        if step.returncode:
            raise Missing(f"{Path(command[0]).name} failed: {step.stderr.strip()[-300:]}")

    def _circumstances(self) -> dict[str, Any]:
        """Where its programs run, and as whom."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._folder), "LC_ALL": "C.UTF-8"}
        found: dict[str, Any] = {"cwd": self._folder, "env": environment}
        if os.geteuid() == 0:
            entry = pwd.getpwnam(_unprivileged())
            found |= {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        return found


@contextlib.contextmanager
def postgres(*, durable: bool = True) -> Iterator[Postgres]:
    """A PostgreSQL in a temporary folder, started; ended and forgotten when this ends.

    Raises:
        Missing: If there is none.
    """
    with tempfile.TemporaryDirectory(prefix="redrive-postgres-", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder), durable=durable)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _programs() -> Path:
    """Where its programs are: Debian keeps them off PATH, one folder for each version."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if folders:
        return folders[-1]
    if found := shutil.which("postgres"):
        return Path(found).parent
    raise Missing("PostgreSQL is not installed (Debian: apt-get install postgresql)")


def _unprivileged() -> str:
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


def _children(pid: int) -> list[int]:
    told = Path(f"/proc/{pid}/task/{pid}/children")
    if told.exists():
        return [int(child) for child in told.read_text("ascii").split()]
    said = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="],  # noqa: S607 - where there is no /proc
        capture_output=True,
        text=True,
        check=False,
    )
    pairs = [line.split() for line in said.stdout.splitlines()]
    return [int(child) for child, parent in pairs if int(parent) == pid]


def main() -> int:
    """Start PostgreSQL, say where it is, and end it when asked to."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with postgres() as server:
            print(f"export REDRIVE_POSTGRES='{server.url}'", flush=True)
            print("PostgreSQL answers there until Ctrl-C", file=sys.stderr)
            while True:
                signal.pause()
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
