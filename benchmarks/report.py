"""Write what was measured into the documentation: every figure there comes from here, none from a hand.

    python benchmarks/report.py build/bench/bench.json build/bench/outage.json build/bench/policies.json

Takes any of them, and what `endpoint.py` and `sagas.py` kept. Each part of `docs/benchmarks.md` between two marks is
replaced, the picture is drawn anew, and the short table for the README is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import endpoint
import outage
import policies
import sagas
from picture import picture
from workload import shown

_DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, PICTURE = "benchmarks.md", "four-policies.svg"
_BEGIN, _END = "<!-- measured: {} -->", "<!-- end of what was measured -->"
Document = dict[str, Any]


def main() -> int:
    """Write what the command line names."""
    parser = argparse.ArgumentParser(description="Write what was measured into the documentation.")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="what --json kept")
    parser.add_argument("--docs", type=Path, default=_DOCS, help="where the page and the picture lie")
    options = parser.parse_args()
    page: Path = options.docs / PAGE
    text = page.read_text("utf-8")
    for file in options.files:
        document = json.loads(file.read_text("utf-8"))
        if document["short"]:
            print(f"{file} holds a short run, and that measures nothing; leave out --short", file=sys.stderr)
            return 2
        for name, lines in _parts(document):
            text = replaced(text, name, lines)
        if "plan" in document:
            (options.docs / PICTURE).write_text(picture(document), "utf-8")
            print("\n".join(for_the_readme(document)))
    page.write_text(text, "utf-8")
    return 0


def replaced(text: str, name: str, lines: Sequence[str]) -> str:
    """The page with one part of it anew.

    Raises:
        LookupError: If the page has no such part.
    """
    before, mark, rest = text.partition(_BEGIN.format(name))
    _, end, after = rest.partition(_END)
    if not mark or not end:
        raise LookupError(f"the page has no part {name!r}; put {_BEGIN.format(name)!r} and {_END!r} into it")
    return before + mark + "\n\n" + "\n".join(lines) + "\n\n" + end + after


def _parts(document: Document) -> Iterator[tuple[str, list[str]]]:
    """The parts of the page that a document has something for."""
    if "endpoints" in document:
        yield "endpoint", [*_endpoints(document), "", *_where(document)]
    elif "sagas" in document:
        yield "sagas", [*_sagas(document), "", *_where(document)]
    elif "outage" in document:
        yield "outage", [*_outage(document), "", *_where(document)]
    elif "plan" in document:
        yield "policies", [*_policies(document), "", *_where(document)]
    else:
        yield "redrive", [*_own(document), "", *_where(document)]
        yield "peers", list(_peers(document))


def _where(document: Document) -> Iterator[str]:
    """On what, with what, how durable, and beside what other load."""
    machine, durability = document["machine"], document["durability"]
    kernel, files = machine["kernel"].partition("-")[0], machine["file_system"].split()[0]
    yield (
        f"Measured on {document['at'][:10]}: {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {kernel}, {files}; load average "
        f"{document['load'][0]:.1f} before and {document['load_after'][0]:.1f} after."
    )
    yield "Versions: " + ", ".join(f"{name} {version}" for name, version in document["versions"].items()) + "."
    yield "redrive's database: " + ", ".join(f"`{name}={value}`" for name, value in durability.items()) + "."


def _own(document: Document) -> Iterator[str]:
    yield from _head("what", "redrive", "unit", "target", "", "fsyncs for 1,000 messages")
    for one in document["results"]:
        if "failed" in one:
            yield _row(one["name"], "not measured", one["unit"], one["target"], "", "")
        else:
            met = {True: "met", False: "missed", None: ""}[one["met"]]
            syncs = shown(one["syncs_per_1000"])
            yield _row(one["name"], shown(one["redrive"]), one["unit"], one["target"], met, syncs)
    yield ""
    yield f"Medians of {document['repeat']} runs, of 3 where a million messages wait."


def _peers(document: Document) -> Iterator[str]:
    yield from _head(
        "who",
        "drained/s",
        "redrive ÷ it",
        "sent/s",
        "redrive ÷ it",
        "send to handler, p50, ms",
        "after a crash, a message",
    )
    for one in document["peers"]:
        if "missing" in one or "failed" in one:
            yield _row(one["name"], *[""] * 5, _absent(one))
            continue
        numbers = (shown(one.get(name)) for name in ("drained", "drained_ratio", "sent", "sent_ratio", "p50"))
        yield _row(one["name"], *numbers, one["crash"])


def _outage(document: Document) -> Iterator[str]:
    yield from _head("who", "what it does", *outage.COLUMNS.values())
    for one in document["results"]:
        if "missing" in one or "failed" in one:
            yield _row(one["name"], _absent(one), *[""] * len(outage.COLUMNS))
        else:
            yield _row(one["name"], one["policy"], *(shown(one[name]) for name in outage.COLUMNS))
    for one in document["results"]:
        if one["name"] == outage.REDRIVE.name and "failed" not in one:
            yield ""
            yield (
                f"Of redrive's {one['wasted']} calls {one['canaries']} were canaries; its last message was handled "
                f"{one['after_canary']:.1f} s after the first canary that found the dependency well."
            )


def _endpoints(document: Document) -> Iterator[str]:
    yield from _head("what", "asked", *(one["name"] for one in document["endpoints"]))
    for row in endpoint.rows(document["endpoints"]):
        yield _row(*row)
    yield ""
    yield from _head("`redrive serve`", "")
    for name, value in document["deep"].items():
        yield _row(name, shown(value))
    yield ""
    yield f"Medians of {document['repeat']} runs."


def _sagas(document: Document) -> Iterator[str]:
    yield from _head(*sagas.HEAD)
    for row in sagas.rows(document["sagas"]):
        yield _row(*row)
    yield ""
    yield f"Medians of {document['repeat']} runs; of one where sagas wait on timers."


def _policies(document: Document) -> Iterator[str]:
    yield from _head("", *(one["title"] for one in document["results"]))
    for name, title in policies.COLUMNS.items():
        yield _row(title, *(shown(one[name]) for one in document["results"]))


def for_the_readme(document: Document) -> Iterator[str]:
    """The same, short."""
    names = {"paid": "paid", "dead": "wait for a person", "wasted": "calls wasted", "caught_up": "seconds to catch up"}
    yield from _head("1,000 orders, a minute's outage", *names.values())
    for one in document["results"]:
        title = f"**{one['title']}**" if one["policy"] == "circuit" else one["title"]
        yield _row(title, *(f"{one[name]:,.0f}" for name in names))


def _absent(one: Document) -> str:
    return f"not measured: it {'is not installed' if 'missing' in one else 'failed'}"


def _head(*cells: str) -> Iterator[str]:
    yield _row(*cells)
    yield "| --- |" + " ---: |" * (len(cells) - 1)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
