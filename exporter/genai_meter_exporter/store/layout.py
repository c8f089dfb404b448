"""How a call lies in the ledger: the columns that reports and linking need, the dimensions once, the rest as JSON.

A row of a hundred columns costs four times as much to insert. The view `usage` shows all columns again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, Final, TypeAlias

import orjson
from genai_meter.schema import FIELDS

from genai_meter_exporter.cells import DIMENSIONS

KINDS: Final[Mapping[str, str]] = {f.name: f.kind for f in FIELDS} | {"parent_span_id": "text", "recorded_at": "time"}
"""Column → kind. Beside the fields of the event: the span above, and when the ledger learned of the call."""

COLUMNS: Final = tuple(KINDS)
"""Columns of the view `usage`."""

OWN: Final = (
    "call_id",
    "start",
    "end",
    "recorded_at",
    "source",
    "source_rank",
    "revision",
    "links",
    "trace_id",
    "span_id",
    "response_id",
    "request_model",
    "model",
    "attempt_count",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "usage",
    "cost_status",
    "cost_reasons",
    "list_cost",
    "cost",
    "cost_lines",
    "book_id",
)
"""Columns of the table `call`; it has `cell` and `more` beside them."""

OWN_VALUES: Final = OWN[1:]
"""Without the key."""

SHARED: Final = tuple(name for name in DIMENSIONS if name != "model")
"""Columns that are read from the table `cell`; the model of a cell may be the requested one."""

MORE: Final = frozenset(COLUMNS) - frozenset(OWN) - frozenset(SHARED)
"""Columns that are members of the JSON object `more`."""

STORED: Final = (*OWN, "cell", "more")
"""Columns of the table `call`."""


def cell_id(dimensions: tuple[str, ...]) -> int:
    """The key of a set of dimensions: 63 bits of its hash, equal in every store and exporter."""
    text = "\x1f".join(dimensions).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def unpack(row: Any, first: Mapping[str, Any]) -> bytes:
    """A row of the table `call` with its cell's columns as one line of JSON: what is known, `first` first."""
    values = {**first}
    for name in OWN_VALUES:
        if (value := row[name]) is not None:
            values[name] = value
    for name in SHARED:
        # A dimension that is unknown is the empty text in its cell.
        if value := row[name]:
            values[name] = value
    more: str = row["more"]
    return orjson.dumps(values)[:-1] + (b"," + more[1:].encode() if len(more) > 2 else b"}")


_Values: TypeAlias = Mapping[str, Any]
_SHAPES_KEPT: Final = 1_000
_shapes: dict[tuple[str, ...], tuple[tuple[str, ...], Callable[[_Values], Any], Callable[[_Values], Any]]] = {}
"""Columns that a call has → those that go into `more`, what takes their values, what takes the others'."""


def pack(values: _Values, cell: int) -> tuple[Any, ...]:
    """A row of the table `call`."""
    columns = tuple(values)
    shape = _shapes.get(columns)
    if shape is None:
        if len(_shapes) >= _SHAPES_KEPT:
            _shapes.clear()
        names = tuple(name for name in columns if name in MORE)
        whole = set(OWN) <= set(columns)
        # Names twice over: of one name, `itemgetter` would give its value alone.
        shape = _shapes[columns] = names, itemgetter(*names, "call_id", "call_id"), _own if whole else _own_known
    names, more_of, own_of = shape
    # What is unknown may be null in it: the view makes no difference.
    more = dict(zip(names, more_of(values), strict=False))
    return (*own_of(values), cell, orjson.dumps(more).decode())


_own: Final[Callable[[_Values], tuple[Any, ...]]] = itemgetter(*OWN)


def _own_known(values: _Values) -> tuple[Any, ...]:
    return tuple(map(values.get, OWN))
