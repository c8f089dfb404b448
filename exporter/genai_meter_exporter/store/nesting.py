"""An application and its gateway, both metered by us, tell of one provider call: which account is the inner one.

The inner account, next to the provider, says what was billed: provider, model, usage, price. The outer one says who
asked: attribution, and the service. Two of our accounts are one call when they come from different processes and

- share a response id, with overlapping times and, where both were counted, equal usage; in the same trace, or by
  an id that is long enough to be nobody else's, with the inner one inside the outer one's time;
- or one's span lies above the other's, with equal operation and usage, the inner one inside the outer one's time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from genai_meter import schema

RULE: Final = "nested"

WHO: Final = tuple(f.name for f in schema.FIELDS if f.group in ("process", "attribution"))
"""What the outer account decides, where it tells."""

_UNIQUE: Final = 20
"""Characters of a response id that no two servers mint alike; local servers count, or draw three digits."""
_SKEW_NS: Final = 100_000_000
"""What the clocks of two hosts may differ by."""
_TRACED_SKEW_NS: Final = 1_000_000_000
"""The same, where the trace says that one led to the other."""


class Account(NamedTuple):
    """What decides, of one of our records."""

    place: tuple[str | None, str | None]
    """Service and instance."""
    start: int
    end: int
    counted: tuple[int | None, int | None] | None
    """Gross input and output as the provider told them; None when they were not counted."""


def account(values: Mapping[str, Any]) -> Account:
    """The account that a record or a row gives."""
    get = values.get
    counted = (get("input_tokens"), get("output_tokens")) if get("usage_source") == "provider" else None
    return Account((get("service"), get("instance")), values["start"], values["end"], counted)


def same_answer(one: Account, other: Account, response_id: str, *, same_trace: bool) -> bool:
    """Two accounts with this response id are of one call."""
    if not _elsewhere(one, other) or not _equal(one, other):
        return False
    if not same_trace and len(response_id) < _UNIQUE:
        return False
    outer, inner = (other, one) if is_inner(one, other) else (one, other)
    return _inside(outer, inner, _TRACED_SKEW_NS if same_trace else _SKEW_NS)


def same_descent(outer: Account, inner: Account) -> bool:
    """The inner account's span lies below the outer one's: they are of one call."""
    return (
        _elsewhere(outer, inner)
        and outer.counted is not None
        and outer.counted == inner.counted
        and any(outer.counted)
        and _inside(outer, inner, _TRACED_SKEW_NS)
    )


def is_inner(account: Account, other: Account) -> bool:
    """The account is the inner one of the two: who waits for the other takes longer, unless it gave up before."""
    if account.counted is not None and other.counted is not None and _length(account) != _length(other):
        return _length(account) < _length(other)
    return account.start > other.start


def merged(inner: Mapping[str, Any], outer: Mapping[str, Any], *, over: bool) -> dict[str, Any]:
    """Who asked: the outer account's, else the inner one's; the other way round unless `over`."""
    first, second = (outer, inner) if over else (inner, outer)
    return {name: first.get(name) if first.get(name) is not None else second.get(name) for name in WHO}


def _elsewhere(one: Account, other: Account) -> bool:
    """They come from different processes, as far as these have names."""
    if one.place[1] and other.place[1]:
        return one.place[1] != other.place[1]
    return one.place[0] != other.place[0]


def _equal(one: Account, other: Account) -> bool:
    """Equal usage, where both were counted: an aborted answer is only estimated."""
    return one.counted is None or other.counted is None or one.counted == other.counted


def _length(account: Account) -> int:
    return account.end - account.start


def _inside(outer: Account, inner: Account, skew: int) -> bool:
    if not outer.start - skew <= inner.start <= outer.end + skew:
        return False
    # Who is cut off ends before who notices.
    return outer.counted is None or inner.counted is None or inner.end <= outer.end + skew
