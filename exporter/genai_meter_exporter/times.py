"""Times and days as people write them in options and queries; the ledger's are Unix nanoseconds in 64 bits."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from genai_meter_exporter.cells import GRAIN_SECONDS

_UNITS: Final = {"m": 60, "h": 3600, "d": 86400, "w": 604800}
_GRAIN_NS: Final = GRAIN_SECONDS * 1_000_000_000
_LAST: Final = 2**63 - 1
_FIRST_DAY: Final = date(1970, 1, 1)
_LAST_DAY: Final = date(2262, 4, 11)


def told_instant(option: str, text: str | None, now: datetime) -> int | None:
    """As `instant`; a mistake names the option."""
    try:
        return instant(text, now)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


def instant(text: str | None, now: datetime) -> int | None:
    """Unix nanoseconds; a span back from now starts at the quarter of an hour it falls into."""
    if text is None or text == "all":
        return None
    try:
        found = _nanoseconds(text, now)
    except OverflowError:
        found = -1
    if not 0 <= found <= _LAST:
        raise ValueError(f"{text!r} is before 1970 or after {_LAST_DAY}: write all for everything")
    return found


def _nanoseconds(text: str, now: datetime) -> int:
    if match := re.fullmatch(r"(\d+)([mhdw])", text):
        moment = now - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
        return int(moment.timestamp()) * 1_000_000_000 // _GRAIN_NS * _GRAIN_NS
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time: write 7d, 12h, 30m, 2w, an ISO time, or all") from None
    return _since_1970(moment)


def _since_1970(moment: datetime) -> int:
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1000


def at(text: str) -> int:
    """An ISO time as an option gives it, for argparse: Unix nanoseconds."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 2026-11-21 or 2026-11-21T09:30:00Z") from None
    found = _since_1970(moment)
    if not 0 <= found <= _LAST:
        raise argparse.ArgumentTypeError(f"{text!r} is before 1970 or after {_LAST_DAY}")
    return found


def day(text: str) -> date:
    """A day as an option gives it, for argparse."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day: write 2026-11-21") from None
    if not _FIRST_DAY <= found <= _LAST_DAY:
        raise argparse.ArgumentTypeError(f"{text!r} is before 1970 or after {_LAST_DAY}")
    return found
