"""What stands around a database file: its folder, what redrive and SQLite keep beside it, and who has it open."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import stat
import struct
import sys
from pathlib import Path

from redrive.sqlite.damage.findings import Beside, Finding, Report
from redrive.sqlite.space import FLOOR, SHARE

_SUFFIXES = ("-wal", "-shm", "-lock", "-next", "-wake")
_LOCKED_BYTES = (0x4000_0000, 512)
"""Where and on how many bytes whoever has the file open holds a lock. Source: SQLite, "os.h", `PENDING_BYTE`."""
_FLOCK = {"linux": "hhqqi4x", "darwin": "qqihh"}
"""`struct flock`: type, whence, start, length, process on Linux; start, length, process, type, whence on macOS."""


def look_around(report: Report) -> None:
    """Note owner and mode of everything, and find what would stand in a worker's way. Changes nothing."""
    path = Path(report.path)
    parent = path.parent
    report.files = [_beside(path), _beside(parent)]
    report.files += [_beside(one) for suffix in _SUFFIXES if (one := Path(f"{path}{suffix}")).exists()]
    report.size = path.stat().st_size
    with contextlib.suppress(FileNotFoundError):
        report.log_size = Path(f"{path}-wal").stat().st_size
    disk = os.statvfs(parent)
    report.free_disk = disk.f_bavail * disk.f_frsize
    report.floor = min(FLOOR, disk.f_blocks * disk.f_frsize // SHARE)
    if report.free_disk < report.floor:
        problem = f"the disk of {report.path!r} has {report.free_disk} bytes left, below the floor of {report.floor}"
        report.add(Finding(kind="disk", problem=problem, remedy="make room: until then sends are refused"))
    _find_locked_out(report, path)


def holder(path: str) -> int | None:
    """A process that has the file open with SQLite; None when there is none, or this system cannot tell.

    A lock of this process itself is not seen.
    """
    layout = _FLOCK.get(sys.platform)
    if layout is None or struct.calcsize("P") < 8:  # noqa: PLR2004 - bytes: 64 bits
        return None
    start, length = _LOCKED_BYTES
    linux = sys.platform == "linux"
    asked = (fcntl.F_WRLCK, os.SEEK_SET, start, length, 0) if linux else (start, length, 0, fcntl.F_WRLCK, os.SEEK_SET)
    with Path(path).open("rb") as file:
        answer = struct.unpack(layout, fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(layout, *asked)))
    kind, process = (answer[0], answer[4]) if linux else (answer[3], answer[2])
    return None if kind == fcntl.F_UNLCK else process


def state_of(path: str) -> list[tuple[int, int] | None]:
    """Size and time of the last change of the file and its log, for who reads both by hand: did nobody write?"""
    found: list[tuple[int, int] | None] = []
    for name in (path, f"{path}-wal"):
        try:
            state = Path(name).stat()
        except OSError:
            found.append(None)
        else:
            found.append((state.st_size, state.st_mtime_ns))
    return found


def _find_locked_out(report: Report, path: Path) -> None:
    owner = path.stat().st_uid
    may = "run redrive as its owner, or change owner and mode"
    for place, needed, doing in ((path, os.W_OK, "written"), (path.parent, os.W_OK | os.X_OK, "written to")):
        if not os.access(place, needed):
            problem = f"{os.fspath(place)!r} cannot be {doing} by user {_name(os.geteuid())!r}"
            report.add(Finding(kind="permission", problem=problem, remedy=may))
    for suffix in _SUFFIXES:
        beside = Path(f"{path}{suffix}")
        if not beside.exists():
            continue
        if beside.is_dir() is not (suffix == "-wake"):
            wanted = "a folder" if suffix == "-wake" else "a file"
            problem = f"{os.fspath(beside)!r} stands in the way: it is not {wanted}"
            report.add(Finding(kind="in-the-way", problem=problem, remedy="move it away"))
        elif beside.stat().st_uid != owner:
            problem = (
                f"{os.fspath(beside)!r} belongs to {_name(beside.stat().st_uid)!r}, "
                f"and the database to {_name(owner)!r}, whose workers cannot use it"
            )
            report.add(Finding(kind="permission", problem=problem, remedy="give both to the user of the workers"))
    if path.stat().st_mode & stat.S_IWOTH:
        problem = f"{report.path!r} can be changed by every user of this machine"
        report.add(Finding(kind="permission", problem=problem, remedy=f"chmod o-w {report.path}"))


def _beside(path: Path) -> Beside:
    found = path.stat()
    return Beside(
        name=os.fspath(path),
        owner=_name(found.st_uid),
        mode=stat.filemode(found.st_mode),
        size=None if path.is_dir() else found.st_size,
    )


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
