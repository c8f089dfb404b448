"""The read API: what it says is what the ledger has, page by page, and its description is what it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from exporter_kit import NOW, Answer, Event, Served, SpanOf, fetch, traces, usage_event
from genai_meter import identity
from genai_meter_exporter.api.description import description
from genai_meter_exporter.cli import main
from genai_meter_exporter.store.layout import COLUMNS

DOCS = Path(__file__).resolve().parent.parent / "docs"
DAY = 86_400_000_000_000


@pytest.fixture(scope="module")
def events() -> list[Event]:
    """Of three tenants on two days; one without a price."""
    made = [
        usage_event(
            start_ns=NOW + (number % 2) * DAY + number * 1_000_000_000,
            input_tokens=1000 * (number + 1),
            tenant=("acme", "bolt", None)[number % 3],
            team="search",
            user=f"user-{number % 5}",
        )
        for number in range(12)
    ]
    return [*made, usage_event(tenant="acme", model="no-such-model", start_ns=NOW)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, events: list[Event]) -> Iterator[Served]:
    """With these calls."""
    with Served(tmp_path_factory.mktemp("data")) as running:
        running.send(*events)
        yield running


def ask(served: Served, query: str) -> Any:
    """A report."""
    answer = fetch(f"{served.status_url}/v1/usage?{query}")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer
    return json.loads(answer.body)


def figures(calls: int, input_tokens: int, output_tokens: int, cost: str | None, **more: Any) -> dict[str, Any]:
    """What a row says."""
    counts = ("calls", "retries", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    empty = dict.fromkeys((*counts, "reasoning_tokens", "unpriced_calls", "unknown_usage_calls"), 0)
    told = {"calls": calls, "input_tokens": input_tokens, "output_tokens": output_tokens}
    return {**empty, **told, "list_cost_usd": cost, "cost_usd": cost, **more}


def test_sums_by_group_and_day(served: Served) -> None:
    assert ask(served, "since=2026-11-22&until=2026-11-24&group_by=tenant&grain=day&model=gpt-4o-2024-08-06") == {
        "since": "2026-11-22T00:00:00Z",
        "until": "2026-11-24T00:00:00Z",
        "group_by": ["tenant"],
        "grain": "day",
        "rows": [
            {"group": {"tenant": ""}, "period": "2026-11-22", **figures(2, 12_000, 200, "0.032000000000")},
            {"group": {"tenant": ""}, "period": "2026-11-23", **figures(2, 18_000, 200, "0.047000000000")},
            {"group": {"tenant": "acme"}, "period": "2026-11-22", **figures(2, 8_000, 200, "0.022000000000")},
            {"group": {"tenant": "acme"}, "period": "2026-11-23", **figures(2, 14_000, 200, "0.037000000000")},
            {"group": {"tenant": "bolt"}, "period": "2026-11-22", **figures(2, 16_000, 200, "0.042000000000")},
            {"group": {"tenant": "bolt"}, "period": "2026-11-23", **figures(2, 10_000, 200, "0.027000000000")},
        ],
        "total": figures(12, 78_000, 1200, "0.207000000000"),
        "next": None,
    }


def test_what_has_no_price_is_null_and_counted(served: Served) -> None:
    found = ask(served, "since=all&model=no-such-model")
    assert found["rows"] == [{"group": {}, **figures(1, 1000, 100, None, unpriced_calls=1)}]


def test_pages_are_the_whole_each_group_once(served: Served) -> None:
    for query in ("since=all&group_by=tenant,user", "since=all&group_by=user&grain=day&order=cost"):
        whole = ask(served, f"{query}&limit=1000")
        rows: list[Any] = []
        cursor, pages = "", 0
        while cursor is not None:
            page = ask(served, f"{query}&limit=3{f'&cursor={cursor}' if cursor else ''}")
            assert page["total"] == whole["total"]
            rows += page["rows"]
            cursor, pages = page["next"], pages + 1
        assert rows == whole["rows"]
        assert pages == -(-len(rows) // 3)
        costs = [Decimal(row["cost_usd"] or 0) for row in rows]
        assert sum(costs) == Decimal(whole["total"]["cost_usd"])
        assert costs == sorted(costs, reverse=True) or "order" not in query


def test_pages_stay_apart_while_calls_come_in(tmp_path: Path) -> None:
    with Served(tmp_path / "data") as served:
        served.send(*(usage_event(tenant=name) for name in "bdf"))
        first = ask(served, "since=all&group_by=tenant&limit=2")
        served.send(*(usage_event(tenant=name) for name in "aceg"))
        second = ask(served, f"since=all&group_by=tenant&limit=10&cursor={first['next']}")
    assert [row["group"]["tenant"] for row in (*first["rows"], *second["rows"])] == ["b", "d", "e", "f", "g"]


def test_the_command_says_the_same(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    for by in ("tenant", "team,user", "day"):
        options = ["--by", by, "--since", "all", "--format", "json", "--data-dir", str(served.data)]
        assert main(["usage", *options]) == 0
        told = json.loads(capsys.readouterr().out)
        asked = "grain=day" if by == "day" else f"group_by={by}"
        found = ask(served, f"since=all&order=cost&{asked}")
        periods = [{"day": row["period"]} if "period" in row else {} for row in found["rows"]]
        rows = [
            {**row.pop("group"), **period, **{name: value for name, value in row.items() if name != "period"}}
            for row, period in zip(found["rows"], periods, strict=True)
        ]
        assert sorted(rows, key=str) == sorted(told["rows"], key=str)
        assert found["total"] == told["total"]


def test_one_event_whole(served: Served, events: list[Event]) -> None:
    call_id = identity.text(events[0].call_id)
    found = json.loads(fetch(f"{served.status_url}/v1/events/{call_id}").body)
    names = {f"{name}_usd" if f"{name}_usd" in found else name for name in COLUMNS}
    assert set(found) == names | {"revisions"}
    expected: dict[str, Any] = {
        "call_id": call_id,
        "start": "2026-11-22T09:00:00Z",
        "end": "2026-11-22T09:00:02Z",
        "tenant": "acme",
        "service": "shop",
        "model": "gpt-4o-2024-08-06",
        "input_tokens": 1000,
        "cost_usd": "0.003500000000",
        "list_cost_usd": "0.003500000000",
        "cost_status": "exact",
        "revisions": [],
        "links": None,
        "finish_reasons": None,
    }
    assert {name: found[name] for name in expected} == expected
    lines = [(line["bucket"], line["quantity"], line["cost_usd"]) for line in found["cost_lines"]]
    assert lines == [("input", 1000, "0.002500000000"), ("output", 100, "0.001000000000")]
    # In its other forms too.
    for other in (call_id.replace("-", ""), call_id.upper()):
        assert json.loads(fetch(f"{served.status_url}/v1/events/{other}").body) == found


def test_a_linked_record_leads_to_its_call(served: Served) -> None:
    trace, span = b"\x07" * 16, b"\x08" * 8
    event = usage_event(trace_id=trace, span_id=span, tenant="linked")
    foreign = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 100,
    }
    served.send(event)
    body = traces([SpanOf(foreign, trace_id=trace, span_id=span)]).SerializeToString()
    assert served.post("traces", body).status == 200
    found = json.loads(fetch(f"{served.status_url}/v1/events/{identity.text(event.call_id)}").body)
    (link,) = found["links"]
    assert json.loads(fetch(f"{served.status_url}/v1/events/{link}").body) == found


@pytest.mark.parametrize(
    ("path", "status", "detail", "parameter"),
    [
        ("/v1/usage?by=model", 400, "'by' is no parameter of this; there are: group_by, grain, since", "by"),
        ("/v1/usage?group_by=modle", 400, "group_by: 'modle' is none of: tenant, team, project", "group_by"),
        ("/v1/usage?group_by=model,model", 400, "group_by: name each once", "group_by"),
        ("/v1/usage?grain=week", 400, "grain: use one of: hour, day, month", "grain"),
        ("/v1/usage?since=yesterday", 400, "since: 'yesterday' is no time: write 7d, 12h, 30m, 2w", "since"),
        ("/v1/usage?since=0001-01-01", 400, "since: '0001-01-01' is before 1970 or after 2262-04-11", "since"),
        ("/v1/usage?limit=0", 400, "limit: an integer from 1 to 1000 is expected", "limit"),
        ("/v1/usage?limit=1001", 400, "limit: an integer from 1 to 1000 is expected", "limit"),
        ("/v1/usage?limit=1&limit=2", 400, "limit is there twice", "limit"),
        ("/v1/usage?cursor=x", 400, "cursor: take `next` of the page before", "cursor"),
        ("/v1/usage?cursor=W10", 400, "cursor: take `next` of the page before", "cursor"),
        ("/v1/usage?tenant=%ff", 400, "the query is no application/x-www-form-urlencoded UTF-8 text", None),
        ("/v1/events/1", 400, "id: the id of a call is a UUID", "id"),
        ("/v1/events/00000000-0000-0000-0000-000000000000", 404, "there is no such call", None),
        ("/v1/events/", 400, "id: the id of a call is a UUID", "id"),
        ("/v1/events/a/b", 404, "there is nothing here; see /v1/openapi.json", None),
        ("/v2", 404, "there is nothing here; see /v1/openapi.json", None),
    ],
)
def test_mistakes_are_problems(served: Served, path: str, status: int, detail: str, parameter: str | None) -> None:
    answer = fetch(served.status_url + path)
    told = json.loads(answer.body)
    assert (answer.status, told["status"], answer.headers["content-type"]) == (
        *(status, status, "application/problem+json"),
    )
    assert told["detail"].startswith(detail)
    assert told.get("parameter") == parameter
    assert set(told) <= {"type", "title", "status", "detail", "parameter"}


def test_it_is_read_only(served: Served) -> None:
    for path in description()["paths"]:
        answer = fetch(served.status_url + path.replace("{id}", "0" * 32), b"x")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD"), path


def test_health(served: Served) -> None:
    found = json.loads(fetch(f"{served.status_url}/v1/health").body)
    ledger = found.pop("ledger")
    assert found.pop("price_book")
    assert found == {
        "status": "ready",
        "reason": None,
        "leads": True,
        "queue": {"requests": 0, "bytes": 0},
        "tokens": None,
    }
    assert ledger["events"] == served.value("ledger_events_total")


def test_the_description_is_in_the_docs_and_served(served: Served) -> None:
    text = (DOCS / "openapi.json").read_text(encoding="utf-8")
    assert json.loads(text) == description(), "run `python -m genai_meter_exporter.api.description > docs/openapi.json`"
    assert json.loads(fetch(f"{served.status_url}/v1/openapi.json").body) == description()


def test_answers_have_the_described_shape(served: Served, events: list[Event]) -> None:
    described = description()
    schemas = described["components"]["schemas"]
    paths = {
        "/v1/usage?since=all&group_by=tenant&grain=hour": "Usage",
        f"/v1/events/{identity.text(events[0].call_id)}": "Event",
        "/v1/health": "Health",
        "/v1/tokens": "Tokens",
        "/v1/nothing": "Problem",
    }
    for path, name in paths.items():
        answer: Answer = fetch(served.status_url + path)
        conforms(json.loads(answer.body), schemas[name], path)
    for path, item in described["paths"].items():
        for status, response in item["get"]["responses"].items():
            assert status == "200" or response["$ref"] == "#/components/responses/Problem", path


def conforms(value: Any, schema: dict[str, Any], where: str) -> None:
    """The part of JSON Schema that the description uses."""
    if "enum" in schema:
        assert value in schema["enum"], where
    kinds = schema.get("type", [])
    allowed = {
        "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
        "null": type(None),
    }  # fmt: skip
    if kinds:
        assert any(isinstance(value, allowed[kind]) for kind in ([kinds] if isinstance(kinds, str) else kinds)), where
    if isinstance(value, dict) and "properties" in schema:
        assert set(schema["required"]) <= value.keys() <= schema["properties"].keys(), where
        for name, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
            conforms(inner, schema["properties"][name], f"{where} {name}")
    if isinstance(value, list):
        for inner in value:  # pyright: ignore[reportUnknownVariableType]
            conforms(inner, schema.get("items", {}), where)


def test_a_head_has_no_body(served: Served) -> None:
    import http.client

    connection = http.client.HTTPConnection(served.status_url.removeprefix("http://"), timeout=60)
    connection.request("HEAD", "/v1/usage?since=all")
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"")
    assert int(response.headers["content-length"]) > 100
    connection.close()
