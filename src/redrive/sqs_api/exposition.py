"""`/metrics`, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from redrive.sqs_api.calls import QueueCounts

KIND = b"text/plain; version=0.0.4; charset=utf-8"
_STATES = (("visible", "visible"), ("not_visible", "not_visible"), ("delayed", "delayed"))
_TOTALS = ("sent", "received", "deleted")

Sample = tuple[Mapping[str, str], int]


def exposition(queues: Sequence[QueueCounts], answers: Mapping[tuple[str, int], int]) -> bytes:
    """All that is told.

    Args:
        queues: the counts of each.
        answers: how many answers had this status, by operation and status.
    """
    states = [({"queue": one.queue, "state": state}, getattr(one, name)) for one in queues for state, name in _STATES]
    lines = [*_family("redrive_sqs_messages", "gauge", "Messages of a queue, by state.", states)]
    for total in _TOTALS:
        counted = [({"queue": one.queue}, getattr(one, total)) for one in queues if getattr(one, total) is not None]
        name, meaning = f"redrive_sqs_messages_{total}_total", f"Messages {total} since the endpoint started."
        lines += _family(name, "counter", meaning, counted)
    told = [
        ({"operation": operation, "status": str(status)}, count)
        for (operation, status), count in sorted(answers.items())
    ]
    lines += _family("redrive_sqs_requests_total", "counter", "Requests answered, by operation and status.", told)
    return "".join(f"{line}\n" for line in lines).encode()


def _family(name: str, kind: str, meaning: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        told = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"{name}{{{told}}} {value}"


def _escaped(text: str) -> str:
    r"""Source: Prometheus, "Exposition formats": `\`, `"` and the end of a line."""
    plain = text.encode("utf-8", "replace").decode()
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
