"""`GET /v1/events/{id}`: one call of the ledger, whole, and what its price was before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from genai_meter import identity
from genai_meter.pricing.cost import usd

from genai_meter_exporter.access.gate import Caller
from genai_meter_exporter.api.parameters import Parameter
from genai_meter_exporter.api.problems import Problem
from genai_meter_exporter.api.times import iso
from genai_meter_exporter.normalise.own import call_key
from genai_meter_exporter.normalise.record import Unreadable
from genai_meter_exporter.store import Reader
from genai_meter_exporter.store.layout import KINDS


def _id(value: str) -> bytes:
    try:
        return call_key(value)
    except Unreadable:
        raise ValueError("the id of a call is a UUID, as `genai_meter.call.id` has it") from None


PARAMETERS: Final = (
    Parameter(
        "id",
        "The call's id, or that of a record that is linked to it",
        _id,
        {"type": "string", "format": "uuid"},
        example="01a2027d-f000-7123-8456-789abcdef012",
        in_path=True,
    ),
)


def event(reader: Reader, values: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
    """The call; of another tenant's the answer is the one of a call that is not there."""
    row = reader.get(values["id"])
    if row is None or (caller.tenants is not None and row.get("tenant") not in caller.tenants):
        raise Problem(404, "there is no such call")
    told = {_name(column): _value(column, row.get(column)) for column in KINDS}
    told["revisions"] = [
        {
            "revision": was["revision"],
            "recorded_at": iso(was["recorded_at"]),
            "reason": was["reason"],
            **{_name(column): _value(column, value) for column, value in orjson.loads(was["price"]).items()},
        }
        for was in reader.revisions(row["call_id"])
    ]
    if caller.tenants is not None:
        # Other producers' records of the call may be told of by others.
        told.pop("links")
    return told


def _name(column: str) -> str:
    return f"{column}_usd" if KINDS.get(column) == "pico_usd" else column


def _value(column: str, value: Any) -> Any:
    if value is None:
        return None
    if column == "call_id":
        return identity.text(value)
    if column == "cost_lines":
        return [_line(line) for line in orjson.loads(value)]
    kind = KINDS.get(column)
    if kind == "pico_usd":
        return f"{usd(value):f}"
    if kind == "time":
        return iso(value)
    if kind == "json" and isinstance(value, str):
        return orjson.loads(value)
    return bool(value) if kind == "bool" else value


def _line(line: Mapping[str, Any]) -> dict[str, Any]:
    """A cost line, its amounts as text like all others."""
    return {
        **{name: value for name, value in line.items() if name not in ("list_pico", "effective_pico")},
        "list_cost_usd": f"{usd(line['list_pico']):f}",
        "cost_usd": f"{usd(line['effective_pico']):f}",
    }
