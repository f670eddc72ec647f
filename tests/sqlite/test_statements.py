"""SQL files are read whole: every statement by its name, every migration by its number."""

from __future__ import annotations

from importlib.resources import files

import pytest

from redrive.sqlite.statements import migrations, named

FILES = [one.name for one in files("redrive.sqlite").iterdir() if one.name.endswith(".sql")]


@pytest.mark.parametrize("name", FILES)
def test_every_statement_is_found_by_its_name(name: str) -> None:
    """Line by line what stands below the comment, without the space around it."""
    expected: dict[str, list[str]] = {}
    for line in (files("redrive.sqlite") / name).read_text("utf-8").splitlines():
        if line.startswith("-- name: "):
            expected[line.removeprefix("-- name: ")] = []
        else:
            expected[list(expected)[-1]].append(line)
    assert named(name) == {key: "\n".join(lines).strip() for key, lines in expected.items()}
    assert all(sql.endswith(";") for sql in named(name).values())


def test_migrations_come_in_the_order_of_their_numbers() -> None:
    """From one on, none left out; nothing else in the folder is one."""
    folder = files("redrive.sqlite") / "schema"
    scripts = sorted((one.name, one.read_text("utf-8")) for one in folder.iterdir() if one.name.endswith(".sql"))
    assert [int(name[:4]) for name, _ in scripts] == list(range(1, len(scripts) + 1))
    assert migrations() == [text for _, text in scripts]
