"""What is measured: the figures of redrive with their targets, and the peers that do the same work."""

from __future__ import annotations

from dataclasses import dataclass

from servers import POSTGRES_URL, RABBITMQ_URL


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One measure of one script of ours, or of one peer: a fresh process on a fresh folder each time."""

    module: str
    measure: str | None
    """Which of the module's measures; None: it has one only."""
    count: int
    """Messages, or seconds for what rests."""
    short: int
    """The same for the short form."""
    times: int = 5
    """How often at most."""
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of redrive; `value` names the number among those that a measure gives."""

    name: str
    value: str
    unit: str
    subject: Subject
    at_least: float | None = None
    at_most: float | None = None
    syncs: bool = False
    """Whether the disk's part is counted too, where strace is there."""

    @property
    def target(self) -> str:
        """What it should be, as text; empty if nothing was set."""
        if self.at_least is not None:
            return f"≥ {self.at_least:,g}"
        return "" if self.at_most is None else f"≤ {self.at_most:,g}"

    def meets(self, value: float) -> bool | None:
        """Whether a value is as it should be; None if nothing was set."""
        if self.at_least is not None:
            return value >= self.at_least
        return None if self.at_most is None else value <= self.at_most


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One peer, with what it needs and what it promises."""

    name: str
    subject: Subject
    needs: tuple[str, ...]
    """Python modules."""
    crash: str
    """What becomes of a message when the worker, or the machine, dies in the middle of it."""
    server: str | None = None
    """The environment variable of its server."""


def _own(module: str, measure: str, count: int, short: int, *, times: int = 5) -> Subject:
    return Subject(module=module, measure=measure, count=count, short=short, times=times)


_LATENCY, ACROSS = _own("latency", "in-process", 400, 50), _own("latency", "across", 400, 50)
_IDLE = _own("resting", "idle", 10, 2, times=3)
_SHARING = _own("sharing", "both", 40_000, 2_000)
_STANDARD = _own("deep", "standard", 1_000_000, 3_000, times=3)
_FIFO = _own("deep", "fifo", 1_000_000, 3_000, times=2)
CONCURRENT, DRAIN = _own("sending", "concurrent", 40_000, 2_000), _own("draining", "async", 40_000, 2_000)

ROWS = (
    Row(
        name="send, batches of 1,000",
        value="rate",
        unit="/s",
        at_least=120_000,
        subject=_own("sending", "batches", 100_000, 5_000),
        syncs=True,
    ),
    Row(name="send, 128 at a time", value="rate", unit="/s", at_least=40_000, subject=CONCURRENT, syncs=True),
    Row(
        name="send, one after the other",
        value="rate",
        unit="/s",
        subject=_own("sending", "in-turn", 2_000, 200),
        syncs=True,
    ),
    Row(name="drain, async handler", value="rate", unit="/s", at_least=30_000, subject=DRAIN, syncs=True),
    Row(
        name="drain, plain handler",
        value="rate",
        unit="/s",
        at_least=10_000,
        subject=_own("draining", "plain", 20_000, 1_000),
        syncs=True,
    ),
    Row(name="drain, two worker processes", value="two", unit="/s", subject=_SHARING),
    Row(name="two worker processes ÷ one", value="ratio", unit="times", at_least=1.0, subject=_SHARING),
    Row(
        name="relaxed: send, 128 at a time",
        value="rate",
        unit="/s",
        subject=_own("sending", "concurrent-relaxed", 40_000, 2_000),
        syncs=True,
    ),
    Row(
        name="relaxed: send, one after the other",
        value="rate",
        unit="/s",
        subject=_own("sending", "in-turn-relaxed", 2_000, 200),
        syncs=True,
    ),
    Row(
        name="relaxed: drain, async handler",
        value="rate",
        unit="/s",
        subject=_own("draining", "relaxed", 40_000, 2_000),
        syncs=True,
    ),
    Row(name="send to handler, p50", value="p50", unit="ms", at_most=1.0, subject=_LATENCY),
    Row(name="send to handler, p99", value="p99", unit="ms", at_most=4.0, subject=_LATENCY),
    Row(name="across processes, p50", value="p50", unit="ms", at_most=3.0, subject=ACROSS),
    Row(name="across processes, p99", value="p99", unit="ms", subject=ACROSS),
    Row(name="receive + acknowledge, 1,000 waiting", value="shallow", unit="µs", subject=_STANDARD),
    Row(name="receive + acknowledge, 1,000,000 waiting", value="deep", unit="µs", subject=_STANDARD),
    Row(name="1,000,000 waiting ÷ 1,000", value="ratio", unit="times", at_most=1.3, subject=_STANDARD),
    Row(name="FIFO: receive + acknowledge, 1,000 waiting", value="shallow", unit="µs", subject=_FIFO),
    Row(name="FIFO: receive + acknowledge, 1,000,000 waiting", value="deep", unit="µs", subject=_FIFO),
    Row(name="FIFO: 1,000,000 waiting ÷ 1,000", value="ratio", unit="times", at_most=1.3, subject=_FIFO),
    Row(name="idle worker", value="percent", unit="% of a core", at_most=1.0, subject=_IDLE),
    Row(name="memory of an idle worker", value="mb", unit="MB", subject=_IDLE),
    Row(
        name="memory of a worker, 1,000,000 waiting",
        value="most",
        unit="MB",
        at_most=80.0,
        subject=_own("deep", "worker", 1_000_000, 3_000, times=3),
    ),
    Row(
        name="import redrive",
        value="ms",
        unit="ms",
        at_most=80.0,
        subject=_own("resting", "import", 1, 1),
    ),
)


def _peer(module: str, count: int, short: int = 300, **environment: str) -> Subject:
    return Subject(
        module=f"peers.{module}",
        measure=None,
        count=count,
        short=short,
        times=3,
        environment=tuple(environment.items()),
    )


_AGAIN = "is handed out again; what was answered is on disk"
REDRIVE_CRASH = f"{_AGAIN}"

PEERS = (
    Contestant(
        name="PgQueuer on PostgreSQL",
        subject=_peer("pgqueuer_peer", 20_000),
        needs=("pgqueuer", "asyncpg", "uvloop"),
        server=POSTGRES_URL,
        crash=_AGAIN,
    ),
    Contestant(
        name="Dramatiq on RabbitMQ, 2 processes",
        subject=_peer("dramatiq_peer", 20_000),
        needs=("dramatiq", "pika"),
        server=RABBITMQ_URL,
        crash=_AGAIN,
    ),
    Contestant(
        name="FastStream on RabbitMQ",
        subject=_peer("faststream_peer", 20_000),
        needs=("faststream", "aio_pika"),
        server=RABBITMQ_URL,
        crash=_AGAIN,
    ),
    Contestant(
        name="Celery on RabbitMQ, 2 processes",
        subject=_peer("celery_peer", 10_000),
        needs=("celery",),
        server=RABBITMQ_URL,
        crash="is handed out again, with `acks_late` as here; what was answered is on disk",
    ),
    Contestant(
        name="Huey on SQLite, fsync",
        subject=_peer("huey_peer", 5_000, BENCH_HUEY_FSYNC="1"),
        needs=("huey",),
        crash="is lost: it is deleted, then run; what was answered is on disk",
    ),
    Contestant(
        name="Huey on SQLite, no fsync",
        subject=_peer("huey_peer", 20_000, BENCH_HUEY_FSYNC="0"),
        needs=("huey",),
        crash="is lost: it is deleted, then run; a power cut loses what was answered, too",
    ),
)
"""Those as durable as redrive first; each is tuned as its own module says."""
