"""What happened: the calls that producers and consumers made, read back from the logs that they left.

A log is a file of one process, one JSON object a line. A call is a line before it (`did`) and a line after it (`got` or
`raised`) under one number; what never got its second line was under way when its process ended, and nobody knows
whether it was done. A last line without its end was torn by the kill, and counts as not written.

    {"at": 51.20, "call": 7, "did": "send", "queue": "orders", "messages": [["m1", null, null, "9f…"]]}
    {"at": 51.21, "call": 7, "got": [null]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from pathlib import Path
from typing import Any, Literal

SUFFIX = ".history"
"""What the name of a log ends in; what stands before it is the name of the process."""


class Outcome(Enum):
    """What is known of one message in a call."""

    DONE = "done"
    REFUSED = "refused"
    """Answered with an error which says that nothing happened."""
    UNKNOWN = "unknown"
    """Never answered, or with an error that leaves it open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of one process. Times are seconds of the machine's monotonic clock."""

    process: str
    number: int
    """Counts the calls of the process."""
    began: float
    ended: float
    """When it was answered. Of one that was not: until when it may have taken effect; infinite if nobody knows."""
    answered: bool
    raised: str = ""
    """Type and text of the exception that it ended in."""
    line: int
    """Of the log, where it began."""

    def before(self, other: Call) -> bool:
        """Whether it was certainly over when the other one began."""
        return self.ended < other.began

    @property
    def place(self) -> str:
        """Where it stands in the logs."""
        return f"{self.process}{SUFFIX}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """One message of a send."""

    call: Call
    position: int
    """In the call; 0 is the first."""
    queue: str
    id: str
    group: str | None
    deduplication_id: str | None
    digest: str
    """Of the body."""
    outcome: Outcome
    sequence: int | None = None
    """What a FIFO queue answered."""
    duplicate_of: str | None = None
    """The id of the message that was sent before, where the queue took this one for the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receive:
    """A call that asked for messages, whether it got any or not."""

    call: Call
    queue: str
    lease: float
    """Seconds."""
    chosen: bool
    """Whether it asked for messages by their ids, and so out of order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One message that a receive was given."""

    call: Call
    position: int
    queue: str
    id: str
    group: str | None
    receipt: str
    receive_count: int
    sequence: int | None
    digest: str
    seconds: float
    """The length that was asked for."""
    chosen: bool
    """Whether it was asked for by its id."""

    def before(self, other: Lease) -> bool:
        """Whether it was certainly given first."""
        return self.position < other.position if self.call is other.call else self.call.before(other.call)

    @property
    def key(self) -> tuple[str, str, str]:
        """What settlements and extensions name it by."""
        return self.queue, self.id, self.receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """One message of a settle."""

    call: Call
    queue: str
    id: str
    receipt: str
    kind: Literal["acknowledge", "return", "forward"]
    outcome: Outcome
    uncounted: bool = False
    target: str | None = None
    """Where it was forwarded to."""
    digest: str | None = None
    """Of the body that was forwarded."""

    @property
    def key(self) -> tuple[str, str, str]:
        """The lease that it is about."""
        return self.queue, self.id, self.receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Extend:
    """One message of an extend."""

    call: Call
    queue: str
    id: str
    receipt: str
    seconds: float
    """From then on."""
    outcome: Outcome

    @property
    def key(self) -> tuple[str, str, str]:
        """The lease that it is about."""
        return self.queue, self.id, self.receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """From now on the broker itself may move messages from one queue to others."""

    call: Call
    source: str
    target: str | None
    """None: each to where it came from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """Everything in a queue was to be deleted."""

    call: Call
    queue: str


@dataclass(slots=True, kw_only=True)
class History:
    """All that was recorded, each list in no particular order."""

    sends: list[Send] = field(default_factory=list)
    receives: list[Receive] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    settles: list[Settle] = field(default_factory=list)
    extends: list[Extend] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    purges: list[Purge] = field(default_factory=list)
    handled: set[str] = field(default_factory=set)
    """Ids of messages that a handler, whose calls to the broker are not recorded, says it handled."""
    deaths: dict[str, float] = field(default_factory=dict)
    """When each killed process was gone for certain."""
    raised: list[Call] = field(default_factory=list)
    """Calls that ended in an exception."""

    @classmethod
    def read(cls, folder: Path, *, linger: float = 0.0) -> History:
        """Read all logs of a folder.

        Args:
            folder: where the recorders wrote.
            linger: for how many seconds the broker may go on with a call whose caller was killed or had an exception.
                0 fits the embedded broker, which dies with its caller; what is behind a network needs more.

        Raises:
            ValueError: If a line other than the last of its file is not one of a recorder's.
        """
        return cls.of({file.stem: file.read_text() for file in sorted(folder.glob(f"*{SUFFIX}"))}, linger=linger)

    @classmethod
    def of(cls, logs: Mapping[str, str], *, linger: float = 0.0) -> History:
        """Read logs: the text of each, by the name of its process; see `read`."""
        history = cls()
        parsed = {process: list(_lines(process, text)) for process, text in logs.items()}
        for lines in parsed.values():
            for _, line in lines:
                if line.get("did") == "killed":
                    history.deaths[line["process"]] = line["at"]
        for process, lines in parsed.items():
            for call, did, got in _calls(process, lines, history.deaths.get(process, inf), linger):
                _READERS[did["did"]](history, call, did, got)
                if call.raised:
                    history.raised.append(call)
        return history

    def __len__(self) -> int:
        return len(self.sends) + len(self.receives) + len(self.leases) + len(self.settles) + len(self.extends)


_Line = dict[str, Any]


def _lines(process: str, text: str) -> Iterator[tuple[int, _Line]]:
    whole = text[: text.rfind("\n") + 1]  # what stands behind the last end of a line was torn
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            document: _Line = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{process}{SUFFIX}:{number} is not a line of a recorder: {error}") from None
        yield number, document


def _calls(
    process: str, lines: list[tuple[int, _Line]], death: float, linger: float
) -> Iterator[tuple[Call, _Line, _Line]]:
    """Each call, with what it did and what it got."""
    answers = {line["call"]: line for _, line in lines if "did" not in line}
    for number, line in lines:
        if "did" not in line:
            continue
        answer = answers.get(line["call"], {})
        answered = "got" in answer
        ended = answer["at"] if answer else death
        call = Call(
            process=process,
            number=line["call"],
            began=line["at"],
            ended=ended if answered else ended + linger,
            answered=answered,
            raised=answer.get("raised", ""),
            line=number,
        )
        yield call, line, answer


def _outcomes(call: Call, got: _Line, count: int) -> Iterable[tuple[Outcome, Any]]:
    """What became of each message of a call, and what was answered for it."""
    if not call.answered:
        return [(Outcome.REFUSED if got.get("refused") else Outcome.UNKNOWN, None)] * count
    return [(_outcome(one), one) for one in got["got"]]


def _outcome(answer: Any) -> Outcome:  # noqa: ANN401 - JSON
    if not isinstance(answer, dict):
        return Outcome.DONE
    return Outcome.REFUSED if "refused" in answer else Outcome.UNKNOWN


def _sent(history: History, call: Call, did: _Line, got: _Line) -> None:
    messages = did["messages"]
    for position, (message, (outcome, answer)) in enumerate(
        zip(messages, _outcomes(call, got, len(messages)), strict=True)
    ):
        identity, group, deduplication_id, digest = message
        first, sequence, duplicate = answer if outcome is Outcome.DONE and answer is not None else (None, None, False)
        history.sends.append(
            Send(
                call=call,
                position=position,
                queue=did["queue"],
                id=identity,
                group=group,
                deduplication_id=deduplication_id,
                digest=digest,
                outcome=outcome,
                sequence=sequence,
                duplicate_of=first if duplicate else None,
            )
        )


def _received(history: History, call: Call, did: _Line, got: _Line) -> None:
    queue, seconds, chosen = did["queue"], did["lease"], did["chosen"]
    history.receives.append(Receive(call=call, queue=queue, lease=seconds, chosen=chosen))
    if not call.answered:
        return
    for position, (identity, group, receipt, receive_count, sequence, digest) in enumerate(got["got"]):
        history.leases.append(
            Lease(
                call=call,
                position=position,
                queue=queue,
                id=identity,
                group=group,
                receipt=receipt,
                receive_count=receive_count,
                sequence=sequence,
                digest=digest,
                seconds=seconds,
                chosen=chosen,
            )
        )


def _settled(history: History, call: Call, did: _Line, got: _Line) -> None:
    those = did["settlements"]
    for settlement, (outcome, _) in zip(those, _outcomes(call, got, len(those)), strict=True):
        history.settles.append(Settle(call=call, outcome=outcome, **settlement))


def _extended(history: History, call: Call, did: _Line, got: _Line) -> None:
    those = did["leases"]
    for (queue, identity, receipt), (outcome, _) in zip(those, _outcomes(call, got, len(those)), strict=True):
        history.extends.append(
            Extend(call=call, queue=queue, id=identity, receipt=receipt, seconds=did["lease"], outcome=outcome)
        )


def _handled(history: History, _call: Call, did: _Line, _got: _Line) -> None:
    history.handled.add(did["id"])


def _moved(history: History, call: Call, did: _Line, _got: _Line) -> None:
    history.moves.append(Move(call=call, source=did["source"], target=did["target"]))


def _purged(history: History, call: Call, did: _Line, _got: _Line) -> None:
    history.purges.append(Purge(call=call, queue=did["queue"]))


def _killed(_history: History, _call: Call, _did: _Line, _got: _Line) -> None:
    """Read before everything else."""


_READERS = {
    "send": _sent,
    "receive": _received,
    "settle": _settled,
    "extend": _extended,
    "handle": _handled,
    "move": _moved,
    "purge": _purged,
    "killed": _killed,
}
