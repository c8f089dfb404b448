"""`GET /v1/usage`: sums by dimensions, page by page."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from genai_meter import schema

from genai_meter_exporter.access.gate import Caller
from genai_meter_exporter.api import figures
from genai_meter_exporter.api.parameters import Parameter, integer, one_of, several_of, text
from genai_meter_exporter.api.problems import Problem
from genai_meter_exporter.api.times import iso
from genai_meter_exporter.cells import DIMENSIONS, MEASURES
from genai_meter_exporter.normalise.record import MAX_INT
from genai_meter_exporter.store import Query, Reader, StoreError
from genai_meter_exporter.store.reader import check_kept, rollup_can
from genai_meter_exporter.times import instant

GROUPS: Final = (*DIMENSIONS, *(field.name for field in schema.ATTRIBUTION if field.name not in DIMENSIONS))
"""What usage can be grouped by: dimensions of the roll-ups, and what else says who pays."""

GRAINS: Final = ("hour", "day", "month")

MAX_GROUPS: Final = 200_000
"""Groups of one report; more are refused, and not held in memory for each page."""

_MAX_PAGE: Final = 1000
_TIME = "`7d` and its like (m, h, d, w; back to the quarter of an hour it falls into), an ISO 8601 time, or `all`"


def _time(value: str) -> str:
    instant(value, datetime.now(UTC))
    return value


def _filter(name: str) -> Parameter:
    return Parameter(name, f"Only calls with this {name}; the empty text means that it is unknown", text, example="x")


PARAMETERS: Final = (
    Parameter(
        "group_by",
        "What the sums are by, with commas between; without it, one sum",
        several_of(GROUPS),
        {"type": "array", "items": {"type": "string", "enum": list(GROUPS)}, "uniqueItems": True},
        default=(),
        example="tenant,model",
    ),
    Parameter(
        "grain",
        "One row a group and hour, day or month (UTC); without it, one a group",
        one_of(GRAINS),
        {"type": "string", "enum": list(GRAINS)},
        example="day",
    ),
    Parameter("since", f"Calls that started then or later: {_TIME}", _time, default="7d", example="all"),
    Parameter("until", f"Calls that started before: {_TIME}; without it, all since", _time, example="2100-01-01"),
    *(_filter(name) for name in DIMENSIONS),
    Parameter(
        "order",
        "`group`: by the values of the groups, stable while calls come in; `cost`: the highest first",
        one_of(("group", "cost")),
        {"type": "string", "enum": ["group", "cost"], "default": "group"},
        default="group",
        example="cost",
    ),
    Parameter(
        "limit",
        "Rows of one page",
        integer(1, _MAX_PAGE),
        {"type": "integer", "minimum": 1, "maximum": _MAX_PAGE, "default": 100},
        default=100,
        example="1",
    ),
    Parameter("cursor", "`next` of the page before, with the same other parameters", text),
)

_Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request asks for."""

    query: Query
    group_by: tuple[str, ...]
    grain: str | None
    order: str
    limit: int
    after: _Key | None
    """Sort key of the last row that was told."""
    digest: str
    """Of the parameters that must not change between pages."""


def usage(reader: Reader, values: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
    """The page that is asked for, of what the caller may see."""
    asked = _asked(values, datetime.now(UTC))
    rows = _report(reader, asked.query, caller.tenants)
    if len(rows) > MAX_GROUPS:
        raise Problem(
            422, f"these are {len(rows):,} groups, more than {MAX_GROUPS:,}: group by less, or a shorter time"
        )
    keyed = sorted(((_key(asked, row), row) for row in rows), key=lambda pair: pair[0])
    if asked.after is not None:
        after = asked.after
        keyed = [pair for pair in keyed if pair[0] > after]
    page, more = keyed[: asked.limit], len(keyed) > asked.limit
    return {
        "since": iso(asked.query.since_ns),
        "until": iso(asked.query.until_ns),
        "group_by": list(asked.group_by),
        "grain": asked.grain,
        "rows": [_row(asked, row) for _, row in page],
        "total": figures.measures(figures.totals(rows)),
        "next": _cursor(asked, page[-1][0]) if more else None,
    }


def _asked(values: Mapping[str, Any], now: datetime) -> _Asked:
    group_by: tuple[str, ...] = values["group_by"]
    grain: str | None = values["grain"]
    fixed = {name: values[name] for name in values if name not in ("cursor", "limit")}
    digest = hashlib.blake2b(orjson.dumps(fixed, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()
    since, until = instant(values["since"], now), instant(values["until"], now)
    after: _Key | None = None
    if values["cursor"] is not None:
        length = len(group_by) + (grain is not None)
        since, until, after = _opened(values["cursor"], digest, length, by_cost=values["order"] == "cost")
    where = tuple((name, values[name]) for name in DIMENSIONS if values[name] is not None)
    by = (*group_by, grain) if grain else group_by
    return _Asked(Query(by, since, until, where), group_by, grain, values["order"], values["limit"], after, digest)


def _report(reader: Reader, query: Query, tenants: frozenset[str] | None) -> list[dict[str, Any]]:
    """Of all tenants, or the sum over the reports of some: each engine's own condition keeps them apart."""
    if not rollup_can(query):
        try:
            check_kept(query, reader.raw_since())
        except StoreError as error:
            raise Problem(422, str(error)) from None
    if tenants is None:
        return reader.report(query)
    wanted = dict(query.where).get("tenant")
    joined: dict[tuple[Any, ...], dict[str, Any]] = {}
    for tenant in sorted(tenants if wanted is None else tenants & {wanted}):
        others = tuple(pair for pair in query.where if pair[0] != "tenant")
        for row in reader.report(replace(query, where=(*others, ("tenant", tenant)))):
            known = joined.setdefault(tuple(row[name] for name in query.by), row)
            if known is not row:
                for name in MEASURES:
                    known[name] += row[name]
    return list(joined.values())


def _key(asked: _Asked, row: Mapping[str, Any]) -> _Key:
    group = tuple(str(row[name]) for name in asked.query.by)
    return (-row["cost"], *group) if asked.order == "cost" else group


def _row(asked: _Asked, row: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"group": {name: row[name] for name in asked.group_by}}
    if asked.grain:
        told["period"] = row[asked.grain]
    return {**told, **figures.measures(row)}


def _cursor(asked: _Asked, key: _Key) -> str:
    """Where the next page starts. Nothing in it is trusted: who may see what is decided at each request."""
    told = [asked.digest, asked.query.since_ns, asked.query.until_ns, *map(str, key)]
    return base64.urlsafe_b64encode(orjson.dumps(told)).decode().rstrip("=")


def _opened(cursor: str, digest: str, length: int, *, by_cost: bool) -> tuple[int | None, int | None, _Key]:
    wrong = Problem(400, "cursor: take `next` of the page before, and keep the other parameters", parameter="cursor")
    try:
        told: Any = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        known, since, until, *key = told
        if known != digest or len(key) != length + by_cost or not all(isinstance(part, str) for part in key):
            raise wrong
        if not all(bound is None or (type(bound) is int and 0 <= bound <= MAX_INT) for bound in (since, until)):
            raise wrong
        return since, until, (int(key[0]), *key[1:]) if by_cost else tuple(key)
    except (binascii.Error, ValueError, TypeError):
        raise wrong from None
