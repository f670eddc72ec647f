"""Make the project's own environment from a bare Python, then run a command in it.

    python3 tools/bootstrap.py runtime|dev|bench|mutation [-- command ...]
    python3 tools/bootstrap.py programs

`runtime`, `dev`, `bench` and `mutation` make `.venv`, install `locks/<name>.txt` by hash and the project itself, and
replace this process by the command, with the environment's `bin` first on PATH.
A second run finds the note that the first one left in `.venv` and goes straight to the command.
`programs` installs the system's programs that tests use, Chromium, PostgreSQL and strace, where it may, and says why
where not.

Standard library only, in a syntax that Python 3.6 still reads, so that an old Python can say what is missing.

Invariants:
1. The note is removed before anything in `.venv` changes and written after all of it: a `.venv` without one was
   interrupted, and is made anew.
2. One set-up at a time works on a folder; a second one waits for the first.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
NOTE = VENV / "redrive-setup.json"
NAMES = ("runtime", "dev", "bench", "mutation")
OLDEST = (3, 11)
OTHER_PYTHONS = ("python3.14", "python3.13", "python3.12", "python3.11")
PROGRAMS = {
    "chromium": (Path("/usr/bin/chromium"), ("chromium", "fonts-liberation"), "the browser test"),
    "postgresql": (Path("/usr/lib/postgresql"), ("postgresql",), "the tests of the store on PostgreSQL"),
    "strace": (Path("/usr/bin/strace"), ("strace",), "the tests of failing system calls"),
}
USAGE = "usage: bootstrap.py runtime|dev|bench|mutation [-- command ...]\n       bootstrap.py programs"

PROBE = "import sys; print('%d.%d' % sys.version_info[:2]); import venv, ensurepip"

REMEDIES = """\
  Debian, Ubuntu   apt-get install python3 python3-venv
  Fedora           dnf install python3
  Arch             pacman -S python
  Alpine           apk add python3
  macOS            brew install python
  elsewhere        install Python from python.org, or with pyenv or uv
On an older release take a versioned package, such as python3.11 with python3.11-venv."""


class SetUpError(Exception):
    """The set-up cannot go on; the message says why and what to do."""


def main(arguments: List[str]) -> int:
    """Carry out one command line and return its exit code.

    Does not return where a command is given: this process becomes that command.
    """
    name, command = arguments[0] if arguments else "", arguments[2:]
    if name == "programs" and len(arguments) == 1:
        install_programs()
        return 0
    if name not in NAMES or (len(arguments) > 1 and (arguments[1] != "--" or not command)):
        print(USAGE, file=sys.stderr)
        return 2
    set_up(name)
    if command:
        run_in_venv(command)
    return 0


def set_up(name: str) -> None:
    """Bring `.venv` up to `locks/<name>.txt` and the project; does nothing if it is there already.

    Raises:
        SetUpError: If no fit Python is found, or a step fails.
    """
    if is_ready(name, read_note()):
        return
    with one_at_a_time():
        note = read_note()  # again: whoever was here before us may have done it all
        if is_ready(name, note):
            return
        if note is None:
            make_venv()
            note = {"done": {}}
        forget_note()
        say(f"installing what locks/{name}.txt lists")
        pip("install", "--require-hashes", "--requirement", str(lock_of(name)))
        say("installing redrive from this folder")
        pip("install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
        done = {each: digest for each, digest in note["done"].items() if each in NAMES and digest == digest_of(each)}
        done[name] = digest_of(name)
        write_note({"root": str(ROOT), "python": real_python(), "done": done})


# What is there already


def is_ready(name: str, note: Optional[Dict[str, Any]]) -> bool:
    """Tell whether `.venv` holds what `locks/<name>.txt` lists.

    All locks agree on every version and each includes `runtime`, so any one that is in place serves for it.
    """
    if note is None:
        return False
    serving = NAMES if name == "runtime" else (name,)
    return any(note["done"].get(each) == digest_of(each) for each in serving)


def read_note() -> Optional[Dict[str, Any]]:
    """Read what an earlier run finished here; None if `.venv` is missing, unfinished or not as it was."""
    try:
        note: Dict[str, Any] = json.loads(NOTE.read_text(encoding="utf-8"))
        if (note["root"], note["python"]) == (str(ROOT), real_python()) and isinstance(note["done"], dict):
            return note
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def forget_note() -> None:
    """Take the note away: from here on `.venv` counts as unfinished."""
    if NOTE.exists():
        NOTE.unlink()


def write_note(note: Dict[str, Any]) -> None:
    """Write the note in one step, so that half a note is never read."""
    draft = NOTE.with_suffix(".draft")
    draft.write_text(json.dumps(note), encoding="utf-8")
    draft.replace(NOTE)


def digest_of(name: str) -> str:
    """Fingerprint what decides what `name` installs: its lock and pyproject.toml."""
    digest = hashlib.sha256()
    for path in (lock_of(name), ROOT / "pyproject.toml"):
        try:
            digest.update(path.read_bytes())
        except OSError as error:
            raise SetUpError(f"cannot read {path}: {error.strerror}") from error
        digest.update(b"\0")
    return digest.hexdigest()


def lock_of(name: str) -> Path:
    """Name the lock file of `name`."""
    return ROOT / "locks" / (name + ".txt")


def venv_python() -> Path:
    """Name the environment's own Python."""
    return VENV / "bin" / "python"


def real_python() -> str:
    """Name the Python that the environment stands on.

    Raises:
        OSError: If there is no environment, or its Python is gone.
    """
    return str(venv_python().resolve(strict=True))


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold this folder's set-up lock; the system frees it once this process and the step that it runs have ended."""
    try:
        import fcntl
    except ImportError:
        raise SetUpError("this script works on Linux and macOS; elsewhere: pip install redrive") from None
    folder = os.open(str(ROOT), os.O_RDONLY)
    os.set_inheritable(folder, True)  # a step may outlive a killed set-up; nobody may start anew meanwhile
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another set-up of this folder")
            fcntl.flock(folder, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: go on unguarded
        yield
    finally:
        os.close(folder)


# Making the environment


def make_venv() -> None:
    """Make `.venv` anew with the first fit Python.

    Raises:
        SetUpError: If there is no Python that is new enough and can make environments.
    """
    python, version = find_python()
    say(f"making .venv with Python {version}")
    run([python, "-I", "-m", "venv", "--clear", str(VENV)], f"cannot make .venv with {python}")


def find_python() -> Tuple[str, str]:
    """Find a Python that is new enough and has venv and ensurepip: its path and its version.

    Raises:
        SetUpError: If there is none; the message says which packages to install.
    """
    incomplete = []
    for python in candidates():
        version, complete = probe(python)
        if version is None or tuple(int(part) for part in version.split(".")) < OLDEST:
            continue
        if complete:
            return python, version
        incomplete.append(f"Python {version} at {python}")
    if incomplete:
        lack = f"{incomplete[0]} cannot make environments: its venv or ensurepip module is missing."
    else:
        this = as_text(sys.version_info[:2])
        lack = f"redrive needs Python {as_text(OLDEST)} or newer; this is {this}, and no newer one is on PATH."
    raise SetUpError(f"{lack}\nInstall it, then run the same command again:\n{REMEDIES}")


def as_text(version: Tuple[int, ...]) -> str:
    """Write a version as people do."""
    return ".".join(str(part) for part in version)


def candidates() -> Iterator[str]:
    """List the Pythons worth asking, each once: this one, then the versioned ones in every folder of PATH."""
    this = sys.executable
    if this.startswith(str(VENV) + os.sep):
        this = str(Path(this).resolve())  # an environment cannot make itself anew; the Python below it can
    seen = {this}
    if this:
        yield this
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for name in OTHER_PYTHONS:
        for folder in folders:
            path = str(Path(folder, name))
            if path not in seen and Path(path).is_file() and os.access(path, os.X_OK):
                seen.add(path)
                yield path


def probe(python: str) -> Tuple[Optional[str], bool]:
    """Ask one Python for its version, and whether it can make environments; the version is None if it does not run."""
    try:
        answer = subprocess.run(
            [python, "-I", "-c", PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return None, False
    version = answer.stdout.decode("ascii", "replace").strip()
    if not version.replace(".", "", 1).isdigit():
        return None, False
    return version, answer.returncode == 0


def pip(*arguments: str) -> None:
    """Run the environment's pip; index, proxy and certificates are the user's own settings."""
    command = [str(venv_python()), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
    run([*command, *arguments], "pip could not finish", dict(os.environ, PIP_USER="0"))


def run(command: List[str], failure: str, environment: Optional[Dict[str, str]] = None) -> None:
    """Run one step in silence; if it fails, show what it said.

    Raises:
        SetUpError: If the command cannot start or ends with another exit code than 0.
    """
    try:
        step = subprocess.run(
            command,
            env=environment,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except OSError as error:
        raise SetUpError(f"{failure}: {error}") from error
    if step.returncode != 0:
        said = step.stdout.decode("utf-8", "replace").rstrip()
        raise SetUpError(f"{said}\n{failure} (exit code {step.returncode})")


# Running in it


def run_in_venv(command: List[str]) -> None:
    """Become the command, so that Ctrl-C and signals reach it directly; does not return.

    Raises:
        SetUpError: If the command cannot be started.
    """
    environment = dict(os.environ, VIRTUAL_ENV=str(VENV))
    environment["PATH"] = str(VENV / "bin") + os.pathsep + os.environ.get("PATH", os.defpath)
    environment.pop("PYTHONHOME", None)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        raise SetUpError(f"cannot run {command[0]}: {error.strerror}") from error


# Programs of the system


def install_programs() -> None:
    """Install what the tests use and is missing, if this user may; otherwise say why not. Never fails."""
    for program, (path, packages, what) in PROGRAMS.items():
        if path.exists():
            continue
        obstacle = apt_obstacle(program, path)
        if obstacle is None:
            say(f"installing {program} for {what}")
            stale = apt_get("update")  # one source that cannot be reached need not matter
            failed = apt_get("install", "--no-install-recommends", *packages)
            obstacle = failed and (stale or failed)
        if obstacle is None and not path.exists():
            obstacle = f"its package brought no {path}"
        if obstacle is not None:
            say(f"no {program} for {what}: {obstacle}")


def apt_obstacle(program: str, path: Path) -> Optional[str]:
    """Say what forbids an installation here, if anything does."""
    if shutil.which("apt-get") is None:
        return f"there is no apt-get here; install the package {program} so that {path} exists"
    if os.geteuid() != 0:
        return f"only root may install it; run: sudo apt-get install {program}"
    return None


def apt_get(*arguments: str) -> Optional[str]:
    """Run apt-get without questions; the last thing it said if it failed, else None."""
    try:
        unattended = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        run(["apt-get", "--yes", "--quiet", "-o", "DPkg::Lock::Timeout=120", *arguments], "apt-get failed", unattended)
    except SetUpError as error:
        lines = [line for line in str(error).splitlines() if line.startswith("E:")]
        return f"apt-get {arguments[0]}: {lines[-1] if lines else str(error).splitlines()[-1]}"
    return None


def say(line: str) -> None:
    """Print one line of progress, to standard error, so that a command's own output stays clean."""
    print("redrive set-up: " + line, file=sys.stderr)
    sys.stderr.flush()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SetUpError as problem:
        print(problem, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        say("stopped; the next run starts it again")
        sys.exit(130)
