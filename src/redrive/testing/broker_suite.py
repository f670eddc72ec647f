"""The behaviour of every broker, as tests: an adapter that passes keeps the promises of `redrive.broker`.

    class TestMyBroker(BrokerSuite):
        lease = 2.0                                      # real time: keep it short

        @pytest.fixture
        async def broker(self) -> AsyncIterator[Broker]:
            broker = await MyBroker.connect("...")
            yield broker
            await broker.close()

Run it with pytest-asyncio in its mode `auto`. Every test makes queues of its own, so that a shared broker will do. What
a broker does not promise in its `Capabilities` is skipped, by the promise's name; a promise that is not kept fails.
What takes longer than `patience` is skipped too, and what needs a restart unless `reopened` says how.
"""

from __future__ import annotations

from redrive.testing.behaviour.closing import Closing
from redrive.testing.behaviour.deduplicated import Deduplicated
from redrive.testing.behaviour.durable import Durable
from redrive.testing.behaviour.extending import Extending
from redrive.testing.behaviour.fair import Fair
from redrive.testing.behaviour.forwarding import Forwarding
from redrive.testing.behaviour.giving_up import GivingUp
from redrive.testing.behaviour.ground import (
    DEADLINE,
    NOTED,
    SENT_AT_MS,
    assert_stale,
    message,
    new_queue,
    promises,
    receive,
    send,
    send_in_line,
    send_once,
    settle,
    settle_down,
)
from redrive.testing.behaviour.locked import Locked
from redrive.testing.behaviour.looking import Looking
from redrive.testing.behaviour.ordered import Ordered
from redrive.testing.behaviour.queues import Queues
from redrive.testing.behaviour.receiving import Receiving
from redrive.testing.behaviour.sending import Sending
from redrive.testing.behaviour.settings import Settings
from redrive.testing.behaviour.settling import Settling

__all__ = [
    "DEADLINE",
    "NOTED",
    "SENT_AT_MS",
    "BrokerSuite",
    "assert_stale",
    "message",
    "new_queue",
    "promises",
    "receive",
    "send",
    "send_in_line",
    "send_once",
    "settle",
    "settle_down",
]


class BrokerSuite(
    Queues,
    Settings,
    Sending,
    Receiving,
    Settling,
    Forwarding,
    Extending,
    Looking,
    GivingUp,
    Ordered,
    Locked,
    Deduplicated,
    Fair,
    Durable,
    Closing,
):
    """Subclass it, and give it a fixture `broker`; `let_pass` too where time can be made to pass faster."""
