"""What the numbers were measured on: machine, file system, versions, and what "on disk" means here."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import apsw
import servers
from rich.console import Console

from redrive import __version__
from redrive.sqlite.database import connect

_PEERS = (
    "huey",
    "pgqueuer",
    "asyncpg",
    "dramatiq",
    "pika",
    "faststream",
    "aio-pika",
    "celery",
    "kombu",
    "taskiq",
    "dbos",
)


def surroundings(folder: Path) -> dict[str, Any]:
    """When, where, with what and how durable, and how busy the machine was with other things."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(folder),
        "versions": versions(),
        "durability": durability(folder),
        "load": os.getloadavg(),
    }


def introduce(console: Console, document: dict[str, Any]) -> None:
    """Print it, but for the load, which is of use beside the figures."""
    for title in ("machine", "versions", "durability"):
        console.print(f"{title:<11}" + ", ".join(f"{name} {value}" for name, value in document[title].items()))


def machine(folder: Path) -> dict[str, Any]:
    """Cores, processor, kernel, memory, and the file system of the folder."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "file_system": file_system(folder),
        "folder": str(folder),
    }


def versions() -> dict[str, str]:
    """Of everything that is measured or that it stands on."""
    return {
        "python": sys.version.split()[0],
        "redrive": __version__,
        "apsw": apsw.apsw_version(),
        "sqlite (apsw)": apsw.sqlite_lib_version(),
        "pydantic": version("pydantic"),
        **{package: _installed(package) for package in _PEERS},
        **servers.versions(),
    }


def durability(folder: Path) -> dict[str, Any]:
    """The settings of redrive's database, asked of a connection that it opened."""
    connection = connect(str(folder / "asked.db"))
    try:
        names = ("journal_mode", "synchronous", "fullfsync", "wal_autocheckpoint", "page_size", "cache_size")
        return {name: connection.pragma(name) for name in names}
    finally:
        connection.close()


def file_system(folder: Path) -> str:
    """Its type and device, by the longest mount point above the folder."""
    found = ("", "unknown")
    for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines():
        before, after = line.split(" - ")
        mount, (kind, device, *_) = before.split()[4], after.split()
        if folder.resolve().is_relative_to(mount) and len(mount) >= len(found[0]):
            found = (mount, f"{kind} on {device}")
    return found[1]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
