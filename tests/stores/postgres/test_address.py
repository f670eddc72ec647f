"""An address says where a PostgreSQL is; what it cannot say is an error, and its credentials are shown nowhere."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from redrive.brokers.sqlite import SqliteBroker
from redrive.brokers.sqs import SqsBroker
from redrive.clock import ManualClock
from redrive.connections import absolute, connect, file_of
from redrive.credentials import without_credentials
from redrive.errors import DeclarationError
from redrive.stores.postgres import PostgresStore, parsed

SECRETS = ("hidden", "hid&den", "hid%26den", "hid@den", "hid/den", "12/den", "hid?den=1", "hid%2540den")
"""Passwords, as people write them into addresses, rightly and wrongly."""


@pytest.mark.parametrize(
    ("address", "shown", "table"),
    [
        ("postgresql://db.example/shop", "postgresql://db.example/shop", '"public"."redrive_entry"'),
        ("postgres://u:p@db.example:5433/shop", "postgresql://db.example:5433/shop", '"public"."redrive_entry"'),
        ("postgresql://u@h/shop?table=a&schema=b", "postgresql://h/shop?table=a&schema=b", '"b"."a"'),
        ("postgresql://u:p@[::1]/shop?sslmode=require", "postgresql://[::1]/shop", '"public"."redrive_entry"'),
        ("postgresql://a:1,b:2/shop", "postgresql://a:1,b:2/shop", '"public"."redrive_entry"'),
        ("postgresql:///shop?host=/run/db", "postgresql:///run/db/shop", '"public"."redrive_entry"'),
    ],
)
def test_an_address_says_where(address: str, shown: str, table: str) -> None:
    """Without credentials, and with the table where it is not the usual one."""
    found = parsed(address)
    assert found.shown == shown
    assert found.quoted == table
    assert PostgresStore(ManualClock(), found).address == shown


def test_the_client_gets_the_rest() -> None:
    """Credentials and options of libpq's own; what is the store's is taken out."""
    found = parsed("postgres://u:p%40@h:1/shop?table=a&sslmode=require&options=-c%20x%3D1&declare=create")
    assert found.url == "postgresql://u:p%40@h:1/shop?sslmode=require&options=-c%20x%3D1"
    settings = PostgresStore(ManualClock(), found)._settings
    assert (settings["password"], settings["sslmode"], settings["options"]) == ("p@", "require", "-c x=1")


@pytest.mark.parametrize(
    ("address", "mode"),
    [
        ("postgresql://db.example/shop", "verify"),
        ("postgresql://127.0.0.1/shop", "create"),
        ("postgresql://u:p@[::1]:5432/shop", "create"),
        ("postgresql:///shop", "create"),
        ("postgresql:///shop?host=/run", "create"),
        ("postgresql:///shop?host=db.example", "verify"),
        ("postgresql://localhost/shop?declare=verify", "verify"),
        ("postgresql://db.example/shop?declare=create", "create"),
    ],
)
def test_a_table_is_made_at_a_server_on_this_machine(address: str, mode: str) -> None:
    """Elsewhere only when the address says so."""
    assert parsed(address).mode == mode


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("postgresql:shop", "use postgresql://USER@HOST:PORT/DATABASE"),
        ("mysql://h/shop", "use postgresql://USER@HOST:PORT/DATABASE"),
        ("postgresql://h:port/shop", "use postgresql://USER@HOST:PORT/DATABASE"),
        ("postgresql://h/shop?table=a.b", "use 1 to 63 of A-Z a-z 0-9 _ -"),
        ('postgresql://h/shop?schema="', "use 1 to 63 of A-Z a-z 0-9 _ -"),
        ("postgresql://h/shop?declare=yes", "it is one of create, verify"),
        ("postgresql://h/shop?table=a&table=b", "says the same twice"),
        ("postgresql://h/shop?sslmodus=require", "take those that libpq knows"),
    ],
)
def test_what_is_not_known_is_named_with_what_is(address: str, words: str) -> None:
    """Before anything is asked."""
    with pytest.raises(DeclarationError) as caught:
        PostgresStore(ManualClock(), parsed(address))
    assert words in str(caught.value)


# As the store of a broker


def test_a_broker_in_a_file_may_have_its_store_there(tmp_path: Path) -> None:
    """The file stays the application's; the store is another one."""
    address = absolute("sqlite:shop.db?store_url=postgresql://u:p@h/shop?table=a", tmp_path)
    assert absolute(address, Path("/elsewhere")) == address
    assert file_of(address) == tmp_path / "shop.db"
    broker, store = connect(address, ManualClock())
    assert isinstance(broker, SqliteBroker)
    assert isinstance(store, PostgresStore)
    assert store.address == "postgresql://h/shop?table=a"
    assert broker.address == f"sqlite:{tmp_path / 'shop.db'}"
    broker._database.close()


def test_amazon_sqs_may_have_its_store_there() -> None:
    """The broker does not show the credentials; a table of its own goes with a prefix of its own."""
    address = absolute(
        "sqs://eu-central-1?prefix=test-&store_url=postgresql://u:p@h/shop?schema=a%26declare=create", Path("/")
    )
    assert absolute(address, Path("/")) == address
    broker, store = connect(address, ManualClock())
    assert isinstance(broker, SqsBroker)
    assert isinstance(store, PostgresStore)
    assert store.address == "postgresql://h/shop?table=test-redrive_entry&schema=a"
    assert store._address.mode == "create"
    assert "u:p" not in broker.address
    assert "h/shop" in broker.address


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("sqlite:shop.db?store_url=sqlite:store.db", "use postgresql://…, or leave it out"),
        ("sqs://eu-central-1?table=shop&store_url=postgresql://h/shop", "say it in store_url"),
        ("postgresql://u:hidden@h/shop", "use sqlite:FILE or sqs://REGION"),
    ],
)
def test_what_a_store_cannot_be_is_said(address: str, words: str) -> None:
    """With the remedy."""
    with pytest.raises(DeclarationError) as caught:
        connect(address, ManualClock())
    assert words in str(caught.value)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "broker", ["", "sqlite:shop.db?store_url=", "sqs://eu-central-1?store_url=", "sqs://?x=y&store_url=", "sqlite:?a="]
)
@pytest.mark.parametrize("more", ["", "&x=y", "&declare=never", "&table=a&table=b", "?no-option=1", ":port"])
def test_a_password_is_never_shown(
    secret: str, broker: str, more: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by what is printed, and not by an error, whatever is wrong with the address."""
    monkeypatch.chdir(tmp_path)
    address = f"{broker}postgresql://user:{secret}@db.example/shop{more}"
    shown = [without_credentials(address)]
    for use in (lambda: parsed(address), lambda: absolute(address, Path("/")), lambda: connect(address, ManualClock())):
        try:
            found = use()
        except DeclarationError as error:
            shown += [str(error), repr(error), str(pickle.loads(pickle.dumps(error)))]  # noqa: S301 - our own
            continue
        if isinstance(found, tuple) and not isinstance(found[0], str):
            shown += [found[0].address, found[1].address, repr(found)]
            if isinstance(found[0], SqliteBroker):
                found[0]._database.close()
    for text in shown:
        assert "hid" not in text
        assert "den" not in text


def test_the_client_is_imported_when_it_is_asked_for() -> None:
    """Neither redrive nor an address brings it along."""
    code = (
        "import sys; import redrive, redrive.stores.postgres as p; p.parsed('postgresql://h/shop');"
        "sys.exit(any('psycopg' in name for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_extra_that_is_missing_is_named() -> None:
    """With the command that installs it."""
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from redrive.clock import SystemClock; from redrive.stores.postgres import PostgresStore, parsed\n"
        "PostgresStore(SystemClock(), parsed('postgresql://u:p@h/shop'))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "needs psycopg, which is not installed; pip install 'redrive[postgres]'" in done.stderr
