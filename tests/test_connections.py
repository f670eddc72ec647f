"""An address says which file, and how durable; what it cannot say is an error that names what it can."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import ManualClock
from redrive.connections import absolute, connect, file_of, parsed
from redrive.errors import DeclarationError
from redrive.sqlite.database import address_of
from redrive.stores.sqlite import SqliteStore


@pytest.mark.parametrize(
    ("address", "full"),
    [
        ("sqlite:coffee.db", "sqlite:/shop/coffee.db"),
        ("sqlite:../coffee.db", "sqlite:/coffee.db"),
        ("sqlite:/data/coffee.db", "sqlite:/data/coffee.db"),
        ("sqlite:coffee.db?durability=full", "sqlite:/shop/coffee.db"),
        ("sqlite:coffee.db?durability=relaxed", "sqlite:/shop/coffee.db?durability=relaxed"),
        ("sqlite:what%3F100%25.db", "sqlite:/shop/what%3F100%25.db"),
    ],
)
def test_a_relative_file_belongs_into_the_folder(address: str, full: str) -> None:
    """Whatever options stand behind it; the default level goes without saying."""
    assert absolute(address, Path("/shop")) == full
    assert absolute(full, Path("/elsewhere")) == full


def test_a_home_is_a_folder_too() -> None:
    """As in a shell."""
    assert file_of(absolute("sqlite:~/coffee.db?durability=relaxed", Path("/"))) == Path.home() / "coffee.db"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_a_file_of_any_name_has_an_address(name: str) -> None:
    """Question marks and percent signs too: a folder may have been named by anybody."""
    assert parsed(address_of(name, "relaxed")) == (name, "relaxed")
    assert parsed(address_of(name)) == (name, "full")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("postgres://x", "use sqlite:FILE"),
        ("sqlite:", "use sqlite:FILE"),
        ("sqlite:?durability=full", "use sqlite:FILE"),
        ("sqlite:a.db?durability=fast", "it is one of full, relaxed"),
        ("sqlite:a.db?durability", "it is one of full, relaxed"),
        ("sqlite:a.db?sync=off", "it takes durability"),
        ("sqlite:a.db?durability=full&durability=relaxed", "says the same twice"),
    ],
)
def test_what_is_not_known_is_named_with_what_is(address: str, words: str) -> None:
    """Before any file is touched."""
    for use in (lambda: absolute(address, Path("/")), lambda: connect(address, ManualClock())):
        with pytest.raises(DeclarationError) as caught:
            use()
        assert repr(address) in str(caught.value)
        assert words in str(caught.value)


@pytest.mark.parametrize(("query", "synchronous"), [("", 2), ("?durability=full", 2), ("?durability=relaxed", 1)])
async def test_the_level_is_what_sqlite_does(tmp_path: Path, query: str, synchronous: int) -> None:
    """FULL or NORMAL, and the address in full says so."""
    broker, store = connect(f"sqlite:{tmp_path / 'a.db'}{query}", ManualClock())
    assert isinstance(broker, SqliteBroker)
    assert isinstance(store, SqliteStore)
    found = await broker._database.run(lambda tables: tables.connection.pragma("synchronous"))
    assert found == synchronous
    said = query if synchronous == 1 else ""
    assert broker._database.address == store._database.address == f"sqlite:{tmp_path / 'a.db'}{said}"
    await broker.close()
