"""Which schema a damaged file has, and where its tables begin."""

from __future__ import annotations

from redrive.errors import DatabaseTooNew, DatabaseUnusable
from redrive.sqlite.damage.cells import Cell, record
from redrive.sqlite.damage.layout import Layout, layout
from redrive.sqlite.damage.pages import Pages
from redrive.sqlite.damage.trees import Forest
from redrive.sqlite.statements import migrations

APPLICATION_ID = 0x72647276
"""Of a database that redrive made."""


def identified(pages: Pages, path: str) -> tuple[Layout, dict[str, int]]:
    """The schema whose definitions are most like those in the file, and the first page of each of its trees.

    Where a definition cannot be read, its tree is looked for where a file that was made at once has it.

    Raises:
        DatabaseTooNew: If a later version of redrive wrote it.
        DatabaseUnusable: If it is not redrive's.
    """
    found = _schema(pages)
    known = len(migrations())
    layouts = [layout(version) for version in range(1, known + 1)]
    definitions = {(kind, name): sql for kind, name, _, sql in found}
    best = max(layouts, key=lambda one: (len(one.definitions.items() & definitions.items()), one.version))
    names = {name for _, name in definitions}
    header = pages.header
    if names and not names & best.tables.keys():
        raise DatabaseUnusable(path, "belongs to another program", "name another file")
    version = int.from_bytes(header[60:64])
    strange = names - best.roots.keys()
    if names and version > known and (strange or not definitions.items() >= best.definitions.items()):
        raise DatabaseTooNew(path, version, known)
    return best, best.roots | {name: root for _, name, root, _ in found}


def _schema(pages: Pages) -> list[tuple[str, str, int, str | None]]:
    def read(cell: Cell) -> tuple[str, str, int, str | None] | None:
        match record(cell.payload):
            case [str(kind), str(name), str(), int(root), str() | None as sql]:
                return kind, name, root, sql
            case _:
                return None

    return [said for part in Forest(pages).walk(1, read, is_index=False, faults=[]) for _, said in part.cells]
