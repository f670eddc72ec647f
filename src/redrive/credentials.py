"""What an address must not show: whoever prints, logs or refuses one prints this of it."""

from __future__ import annotations

import re

# As they stand, or encoded because the address stands inside another one.
_BETWEEN = re.compile(r"(postgres(?:ql)?(?::|%3A)(?:/|%2F)*).*(@|%40)", re.IGNORECASE | re.DOTALL)
_SAID = re.compile(r"(password(?:=|%3D)).*", re.IGNORECASE | re.DOTALL)


def without_credentials(address: str) -> str:
    """The address, with `…` where user and password of a PostgreSQL stand; too much is hidden rather than too little.

    >>> without_credentials("sqlite:shop.db?store_url=postgresql://shop:secret@db.example/shop")
    'sqlite:shop.db?store_url=postgresql://…@db.example/shop'
    """
    return _SAID.sub(r"\1…", _BETWEEN.sub(r"\1…\2", address))
