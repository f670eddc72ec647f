"""SQL lives in `.sql` files beside this module: statements by name, migrations by number."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_MIGRATION = re.compile(r"^(\d{4})_\w+\.sql$")


def named(filename: str) -> dict[str, str]:
    """The statements of a file, by the name in the comment above each."""
    parts = _NAME.split((files(__package__) / filename).read_text("utf-8"))
    return {name: sql.strip() for name, sql in zip(parts[1::2], parts[2::2], strict=True)}


def migrations() -> list[str]:
    """The scripts that bring an empty file to today's schema, in order; the n-th leads to schema n."""
    found = sorted(
        (int(match[1]), script)
        for script in (files(__package__) / "schema").iterdir()
        if (match := _MIGRATION.match(script.name))
    )
    return [script.read_text("utf-8") for _, script in found]
