"""Mutation testing of the Python modules: runs mutmut, and tells what no test noticed.

    python -m tools.mutation.modules [--results]

`[tool.mutmut]` in pyproject.toml says which modules and which tests. mutmut keeps what it found in `mutants/`: a second
run takes up where the first one was stopped, and tries again what has changed since.
The score is noticed ÷ all, less what `equivalents.txt` lists with its reason.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.mutation.equivalents import equivalents

FOUND = Path("mutants/src")
SURVIVED, UNTESTED = 0, 33
"""mutmut's exit codes; any other one means that a test noticed, by failing or by never ending."""
ENOUGH = 0.85


def main() -> int:
    """Run mutmut and report; the exit code tells whether enough of the mutants were noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", action="store_true", help="report what the last run found, without a new one")
    if not parser.parse_args().results:
        mutmut("run", "--max-children", str(os.cpu_count() or 1))
    return report()


def report() -> int:
    """Say what came of it, module by module."""
    known = equivalents()
    noticed = total = same = 0
    for module, codes in outcomes():
        survivors = [name for name, code in codes.items() if code in {SURVIVED, UNTESTED}]
        equal = {name for name in survivors if (readable(name), change_of(name)) in known}
        for name in survivors:
            if name not in equal:
                print(f"not noticed: {readable(name)} | {change_of(name)}")
        told = len(codes) - len(equal)
        here = len(codes) - len(survivors)
        print(f"{module}: {here} of {told} noticed ({here / told:.1%})")
        noticed, total, same = noticed + here, total + told, same + len(equal)
    score = noticed / max(1, total)
    print(f"Python: {noticed} of {total} noticed ({score:.1%}), {same} more do the same as the original")
    return 0 if score >= ENOUGH else 1


def outcomes() -> Iterator[tuple[str, dict[str, int]]]:
    """The exit code of every mutant that was tried, by module."""
    for path in sorted(FOUND.rglob("*.meta")):
        codes: dict[str, int | None] = json.loads(path.read_text("utf-8"))["exit_code_by_key"]
        tried = {name: code for name, code in codes.items() if code is not None}
        if tried:
            yield str(path.relative_to(FOUND)).removesuffix(".py.meta").replace("/", "."), tried


def readable(name: str) -> str:
    """The function that a mutant changes: `redrive.sqlite.engine.Engine.send`."""
    module, _, function = name.partition("__mutmut_")[0].rpartition(".")
    return f"{module}.{function.replace('xǁ', '').replace('ǁ', '.').removeprefix('x_')}"


def change_of(name: str) -> str:
    """The line as the mutant has it; `nothing` where one was left out."""
    shown = mutmut("show", name, stdout=subprocess.PIPE)
    added = [line[1:].strip() for line in shown.splitlines() if line.startswith("+") and not line.startswith("+++")]
    return " ".join(added) or "nothing"


def mutmut(*arguments: str, stdout: int | None = None) -> str:
    """What it says, where that is not printed."""
    done = subprocess.run(["mutmut", *arguments], check=True, stdout=stdout, text=True)  # noqa: S603, S607 - our own words
    return done.stdout or ""


if __name__ == "__main__":
    sys.exit(main())
