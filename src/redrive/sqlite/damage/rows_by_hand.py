"""Whether a message's row is what was written, whatever damage has made of its columns."""

from __future__ import annotations

from typing import Any, cast

from redrive.sqlite.rows import RawContent, is_whole


def fits(check: Any, raw: tuple[Any, ...]) -> bool:  # noqa: ANN401 - anything may stand there
    """Whether the checksum fits; a row without one has to be readable at least.

    Args:
        check: the checksum, or None.
        raw: id, sent_at_ms, group_id, attributes, notes and body, the texts as bytes.
    """
    try:
        return is_whole(check, cast("RawContent", raw))
    except (LookupError, TypeError, ValueError, AttributeError):
        return False
