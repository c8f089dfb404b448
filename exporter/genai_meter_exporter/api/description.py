"""The OpenAPI 3.1 description of the API. `python -m genai_meter_exporter.api.description` writes docs/openapi.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

from genai_meter_exporter.api.endpoints import ENDPOINTS, Endpoint
from genai_meter_exporter.api.parameters import Parameter
from genai_meter_exporter.cells import MEASURES, MONEY
from genai_meter_exporter.store.layout import KINDS

_INTEGER: Final = {"type": "integer"}
_TEXT: Final = {"type": "string"}
_INSTANT: Final = {"type": ["string", "null"], "format": "date-time"}
_MONEY: Final = {
    "type": ["string", "null"],
    "pattern": r"^-?[0-9]+\.[0-9]{12}$",
    "description": "USD, exact; null: no price is known",
}
_KINDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "text": {"type": ["string", "null"]},
    "int": {"type": ["integer", "null"]},
    "float": {"type": ["number", "null"]},
    "bool": {"type": ["boolean", "null"]},
    "time": _INSTANT,
    "json": {"description": "A JSON value"},
    "pico_usd": _MONEY,
}


def description() -> dict[str, Any]:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "genai-meter",
            "version": version("genai-meter"),
            "description": "What LLM calls have cost. Amounts are decimal text, errors `application/problem+json`.",
        },
        "security": [{"token": []}],
        "paths": {endpoint.path: {"get": _operation(endpoint)} for endpoint in ENDPOINTS},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
            "responses": {
                "Problem": {
                    "description": "What is wrong",
                    "content": {"application/problem+json": {"schema": _ref("Problem")}},
                }
            },
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if endpoint.name in _ANSWERS:
        content = {"schema": _ref(_ANSWERS[endpoint.name])}
    told: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": [_parameter(parameter) for parameter in endpoint.parameters],
        "responses": {
            "200": {"description": "The answer", "content": {endpoint.content_type: content}},
            **{str(status): _problem(status) for status in _statuses(endpoint)},
        },
        "x-scope": endpoint.scope,
        "x-all-tenants": endpoint.all_tenants,
    }
    if endpoint.public:
        told["security"] = []
    return told


def _statuses(endpoint: Endpoint) -> list[int]:
    """Beside 200."""
    statuses = [400, 405]
    if not endpoint.public:
        statuses += [401, 429, 503]
    if endpoint.scope or endpoint.all_tenants:
        statuses.append(403)
    if any(parameter.in_path for parameter in endpoint.parameters):
        statuses.append(404)
    if endpoint.name == "usage":
        statuses.append(422)
    return sorted(statuses)


def _problem(status: int) -> dict[str, Any]:
    return {"$ref": "#/components/responses/Problem", "description": HTTPStatus(status).phrase}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": parameter.name,
        "in": "path" if parameter.in_path else "query",
        "required": parameter.in_path,
        "description": parameter.doc,
        "schema": dict(parameter.schema),
    }
    if parameter.schema.get("type") == "array":
        told |= {"style": "form", "explode": False}
    if parameter.example is not None:
        told["example"] = parameter.example.split(",") if parameter.schema.get("type") == "array" else parameter.example
    return told


_ANSWERS: Final = {"usage": "Usage", "event": "Event", "health": "Health", "tokens": "Tokens"}


def _schemas() -> dict[str, Any]:
    measures: dict[str, Any] = {name: _INTEGER for name in MEASURES if name not in MONEY}
    measures |= {f"{name}_usd": _MONEY for name in MONEY}
    row = {"group": {"type": "object", "additionalProperties": _TEXT}, "period": _TEXT, **measures}
    price = ("cost_status", "list_cost", "cost", "cost_lines", "cost_reasons", "book_id")
    columns = {_column(name): _KINDS[kind] for name, kind in KINDS.items()}
    revision = {"revision": _INTEGER, "recorded_at": _INSTANT, "reason": _TEXT}
    revision |= {_column(name): columns[_column(name)] for name in price}
    token = {
        "id": _TEXT,
        "name": _TEXT,
        "scopes": _array(_TEXT),
        "tenants": {"type": ["array", "null"], "items": _TEXT},
        "created": _INSTANT,
        "expires": _INSTANT,
    }
    return {
        "Usage": _object(
            {
                "since": _INSTANT,
                "until": _INSTANT,
                "group_by": _array(_TEXT),
                "grain": {"type": ["string", "null"]},
                "rows": _array(_object(row, optional=("period",))),
                "total": _object(measures),
                "next": {
                    "type": ["string", "null"],
                    "description": "`cursor` of the next page; null: this is the last",
                },
            }
        ),
        "Event": _object({**columns, "revisions": _array(_object(revision))}, optional=("links",)),
        "Health": _object(
            {
                "status": {"enum": ["ready", "unready"]},
                "reason": {"type": ["string", "null"]},
                "leads": {"type": "boolean"},
                "queue": _object({"requests": _INTEGER, "bytes": _INTEGER}),
                "price_book": _TEXT,
                "ledger": _object({"events": _INTEGER, "cost_usd": _MONEY}),
                "tokens": {"type": ["integer", "null"]},
            },
            optional=("reason", "leads", "queue", "price_book", "ledger", "tokens"),
        ),
        "Tokens": _object({"tokens": _array(_object(token))}),
        "Problem": _object(
            {"type": _TEXT, "title": _TEXT, "status": _INTEGER, "detail": _TEXT, "parameter": _TEXT},
            optional=("parameter",),
        ),
    }


def _column(name: str) -> str:
    return f"{name}_usd" if KINDS[name] == "pico_usd" else name


def _object(properties: Mapping[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _array(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": dict(items)}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


if __name__ == "__main__":
    print(json.dumps(description(), indent=2, ensure_ascii=False))
