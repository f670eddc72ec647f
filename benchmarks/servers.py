"""Servers that some peers need: a private one each, on loopback, in a folder of its own, and ended with the run.

Whoever starts them may be root; they are not: they run as whom the system has for them, or else as `nobody`.
What is not installed is `Missing`, and the row that needs it says so.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

POSTGRES_URL, RABBITMQ_URL = "BENCH_POSTGRES", "BENCH_RABBITMQ"
"""The environment variables in which a peer finds its server."""
_PATIENCE = 60.0
_POSTGRES = ("--listen_addresses=127.0.0.1", "--unix_socket_directories=", "--fsync=on", "--synchronous_commit=on")
_POSTGRES_TUNED = ("--shared_buffers=256MB", "--max_wal_size=4GB", "--wal_compression=on")
"""Source: PostgreSQL's documentation, "Resource Consumption" and "Write Ahead Log": more than the defaults, which are
for the smallest machines."""


class Missing(Exception):
    """A server that is not installed, or does not start here; the text says which and why."""


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL with fsync on; its address. Blocks until it answers, and until it has ended.

    Raises:
        Missing: If there is none.
    """
    programs = _postgres_programs()
    home, port = _home(folder, "postgres", "postgres"), free_port()
    data = home / "data"
    asked = [str(programs / "initdb"), "--pgdata", str(data), "--username=bench", "--auth=trust", "--encoding=UTF8"]
    _done([*asked, "--no-locale"], home, "postgres")
    command = [str(programs / "postgres"), "-D", str(data), f"--port={port}", *_POSTGRES, *_POSTGRES_TUNED]
    # SIGINT: PostgreSQL's fast shutdown
    with _serving(command, home, "postgres", {}, stop=signal.SIGINT) as process:
        _until(lambda: _ready(programs, port), process, "PostgreSQL")
        yield f"postgresql://bench@127.0.0.1:{port}/postgres"


@contextmanager
def rabbitmq(folder: Path) -> Iterator[str]:
    """A RabbitMQ node of its own; its address. Blocks until it answers, and until it has ended.

    Raises:
        Missing: If there is none.
    """
    program, mapper = Path("/usr/lib/rabbitmq/bin/rabbitmq-server"), shutil.which("epmd")
    if not program.is_file() or mapper is None:
        raise Missing("RabbitMQ is not installed (Debian: apt-get install rabbitmq-server)")
    home = _home(folder, "rabbitmq", "rabbitmq")
    port, names, between = free_port(), free_port(), free_port()
    (home / "bench.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\nloopback_users = none\n", "utf-8")
    environment = {
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": "bench@localhost",
        "RABBITMQ_DIST_PORT": str(between),
        "RABBITMQ_CONFIG_FILE": str(home / "bench.conf"),
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }
    with (
        _serving([mapper, "-port", str(names), "-address", "127.0.0.1"], home, "rabbitmq", environment),
        _serving([str(program)], home, "rabbitmq", environment) as process,
    ):
        _until(lambda: _greets(port), process, "RabbitMQ")
        yield f"amqp://guest:guest@127.0.0.1:{port}/"


SERVERS: Mapping[str, Any] = {POSTGRES_URL: postgres, RABBITMQ_URL: rabbitmq}


def versions() -> dict[str, str]:
    """Of the servers that are there, as they say it themselves."""
    found = {}
    try:
        said = subprocess.check_output([str(_postgres_programs() / "postgres"), "--version"], text=True)  # noqa: S603
        found["PostgreSQL"] = said.split()[2]
    except (Missing, OSError, subprocess.CalledProcessError):
        found["PostgreSQL"] = "not installed"
    folders = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
    found["RabbitMQ"] = folders[-1].name.partition("-")[2] if folders else "not installed"
    return found


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _postgres_programs() -> Path:
    """Where its programs are: Debian keeps them off PATH, one folder for each version."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if folders:
        return folders[-1]
    if found := shutil.which("postgres"):
        return Path(found).parent
    raise Missing("PostgreSQL is not installed (Debian: apt-get install postgresql)")


def _home(folder: Path, name: str, user: str) -> Path:
    """A folder that the server may write to.

    Raises:
        Missing: If whoever the server runs as may not come to it.
    """
    home = folder / name
    home.mkdir()
    if os.geteuid() == 0:
        folder.chmod(0o711)
        shutil.chown(home, _unprivileged(user))
        closed = [parent for parent in folder.resolve().parents if not parent.stat().st_mode & stat.S_IXOTH]
        if closed:
            raise Missing(f"{name} cannot run below {closed[-1]}, which is root's alone; use another --folder")
    return home


def _unprivileged(user: str) -> str:
    try:
        return pwd.getpwnam(user).pw_name
    except KeyError:
        return "nobody"


def _as(user: str) -> dict[str, Any]:
    """Arguments of Popen that lay root aside."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(_unprivileged(user))
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _environment(home: Path, more: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LC_ALL": "C.UTF-8", **more}


def _done(command: Sequence[str], home: Path, user: str) -> None:
    step = subprocess.run(  # noqa: S603 - the server's own program
        command, cwd=home, env=_environment(home, {}), capture_output=True, text=True, check=False, **_as(user)
    )
    if step.returncode:
        raise Missing(f"{Path(command[0]).name} failed: {step.stderr.strip()[-300:]}")


@contextmanager
def _serving(
    command: Sequence[str], home: Path, user: str, environment: Mapping[str, str], *, stop: int = signal.SIGTERM
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own, whose last member has ended when this ends."""
    with (home / f"{Path(command[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - the server's own program
            command,
            cwd=home,
            env=_environment(home, environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **_as(user),
        )
        try:
            yield process
        finally:
            _end(process, stop)


def _end(process: subprocess.Popen[bytes], stop: int) -> None:
    if process.poll() is None:
        process.send_signal(stop)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE / 2)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what it left behind; the group is ours alone
    process.wait()


def _until(ready: Callable[[], bool], process: subprocess.Popen[bytes], name: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not ready():
        if process.poll() is not None:
            raise Missing(f"{name} ended at its start, with exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise Missing(f"{name} did not answer within {_PATIENCE:g} s")
        time.sleep(0.1)


def _ready(programs: Path, port: int) -> bool:
    asked = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    return subprocess.run(asked, check=False).returncode == 0  # noqa: S603 - the server's own program


def _greets(port: int) -> bool:
    """Whether something on the port speaks AMQP: it answers a greeting of no version with its own."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) != b""
    except OSError:
        return False
