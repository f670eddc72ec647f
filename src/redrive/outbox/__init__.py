"""The outbox: messages written in your own transaction, and sent by a relay once it has been committed.

    app.outbox(connection)      a row for each message, in the transaction that the connection has open
    app.relay("postgresql://")  one leader among the workers sends committed rows, in order for each line

    your transaction                             the relay
    ─ your changes                               ─ reads what is committed
    ─ outbox.send: a row      commit ──wakes──►  ─ sends it, under the row's message id
                                                 ─ deletes the row

A crash before the commit leaves neither changes nor messages; one after it leaves rows, which are sent; and one between
the send and the delete sends again, under the same id.
"""

from redrive.outbox.statements import DIALECTS, ddl
from redrive.outbox.writing import AsyncConnection, AsyncOutbox, Connection, Outbox

__all__ = ["DIALECTS", "AsyncConnection", "AsyncOutbox", "Connection", "Outbox", "ddl"]
