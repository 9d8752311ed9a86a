"""What of a database's URL may be shown."""

from __future__ import annotations

import re

_USER_AND_PASSWORD = re.compile(r"://([^:/]*):.*@")
_SECRET_OPTION = re.compile(r"((?:password|passphrase|pwd|token)[^=&:]*[=:])[^&,]+", re.IGNORECASE)


def masked(url: str) -> str:
    """The URL with its password, and what else is secret in it, replaced by stars."""
    return _SECRET_OPTION.sub(r"\1***", _USER_AND_PASSWORD.sub(r"://\1:***@", url))
