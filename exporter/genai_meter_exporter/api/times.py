"""Instants as the API writes them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(ns: int | None) -> str | None:
    """RFC 3339 in UTC, to the nanosecond; what is zero at the end is left out."""
    if ns is None:
        return None
    seconds, rest = divmod(ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()
    return f"{moment}.{rest:09d}".rstrip("0").rstrip(".") + "Z"
