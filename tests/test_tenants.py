"""A tenant's token cannot read, infer or write another's data: for every endpoint and parameter there is.

The requests are made from the API's own description. What a token of the tenant `acme` is told must be the same, byte
for byte, before and after the tenant `bolt` has any data; what one of `bolt` is told must be the same before and after
`acme` has tried to write.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import grpc
import orjson
import pytest
from access_kit import bearer, get, make_token
from exporter_kit import NOW, Answer, Event, Served, SpanOf, fetch, logs, logs_json, new_id, traces, usage_event
from genai_meter import identity
from genai_meter_exporter.access import tokens
from genai_meter_exporter.cli import main
from genai_meter_exporter.store import Query, open_readonly
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

TRACE, SPAN = b"\x11" * 16, b"\x22" * 8
RESPONSE = "chatcmpl-of-bolt-0123456789abcdef"


@dataclass
class World:
    """An exporter with tokens of two tenants, and of the house."""

    served: Served
    description: dict[str, Any]
    tokens: dict[str, str]
    acme: Event
    bolt: Event
    connection: http.client.HTTPConnection

    def ask(self, path: str, who: str | None) -> Answer:
        """One request with somebody's token."""
        self.connection.request("GET", path, headers=dict(bearer(None if who is None else self.tokens[who])))
        response = self.connection.getresponse()
        return Answer(response.status, response.read(), dict(response.getheaders()))

    def told(self, paths: list[str], who: str) -> dict[str, tuple[int, bytes]]:
        """What somebody is told, page after page where there are several."""
        found: dict[str, tuple[int, bytes]] = {}
        for path in paths:
            answer = self.ask(path, who)
            found[path] = answer.status, answer.body
            following = path
            while answer.status == 200 and (cursor := following_page(answer)) and len(found) < 5_000:
                following = f"{path}{'&' if '?' in path else '?'}cursor={cursor}"
                answer = self.ask(following, who)
                found[following] = answer.status, answer.body
        return found


def following_page(answer: Answer) -> str | None:
    """The cursor in an answer."""
    told: Any = json.loads(answer.body)
    return told.get("next")


def calls_of(tenant: str, count: int, **more: Any) -> list[Event]:
    """Calls of a tenant, in several groups of each kind."""
    return [
        usage_event(
            start_ns=NOW + number * 1_000_000_000,
            input_tokens=100 + number,
            tenant=tenant,
            team=("search", "mail")[number % 2],
            feature=f"feature-{number % 3}",
            run_id=f"run-{number % 2}",
            user=f"user-{number % 2}",
            **more,
        )
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """With data of `acme` alone."""
    data = tmp_path_factory.mktemp("data")
    file = data / "tokens.json"
    known = {
        "acme reads": make_token(file, "read", tenants=["acme"]),
        "acme sends": make_token(file, "ingest", tenants=["acme"]),
        "acme both": make_token(file, "read", "ingest", tenants=["acme", "nobody-yet"]),
        "bolt reads": make_token(file, "read", tenants=["bolt"]),
        "house reads": make_token(file, "read"),
        "house sends": make_token(file, "ingest"),
        "admin": make_token(file, "admin"),
        "over": make_token(file, "read", "ingest", "admin", over=True),
        "revoked": make_token(file, "read", "ingest", "admin"),
        "nobody's": "gmt_0123456789ab_" + "x" * 43,
    }
    tokens.revoke(file, tokens.id_of(known["revoked"]))
    with Served(data, {"access": {"tokens": file.name}}) as served:
        description = json.loads(get(f"{served.status_url}/v1/openapi.json").body)
        events = calls_of("acme", 7)
        bolt = usage_event(tenant="bolt", team="secret", response_id=RESPONSE, trace_id=TRACE, span_id=SPAN)
        connection = http.client.HTTPConnection(served.status_url.removeprefix("http://"), timeout=60)
        made = World(served, description, known, events[0], bolt, connection)
        assert post(made, "logs", logs(events).SerializeToString(), "house sends").status == 200
        yield made
        connection.close()


def post(world: World, signal: str, body: bytes, who: str, content_type: str = "application/x-protobuf") -> Answer:
    """Send with somebody's token."""
    return fetch(f"{world.served.http}/v1/{signal}", body, {**bearer(world.tokens[who]), "content-type": content_type})


def operations(world: World) -> list[tuple[str, dict[str, Any]]]:
    """Path and operation of every endpoint."""
    assert all(set(item) == {"get"} for item in world.description["paths"].values())
    return [(path, item["get"]) for path, item in world.description["paths"].items()]


def requests(world: World) -> list[str]:
    """For every endpoint: plain, with every value of every parameter, and with what only the other tenant has."""
    found: list[str] = []
    for path, operation in operations(world):
        if operation.get("security") == [] or operation["x-all-tenants"]:
            continue
        if "{" in path:
            found += [path.replace("{id}", quote(value)) for value in (*ids(world), "nonsense", "0" * 31, "%00", "é")]
            continue
        # The default of `since` moves with the clock, and the answer says where it is.
        fixed = {"since": "all"} if any(p["name"] == "since" for p in operation["parameters"]) else {}
        found.append(f"{path}?{urlencode(fixed)}" if fixed else path)
        for parameter in operation["parameters"]:
            for value in values(world, parameter):
                found.append(f"{path}?{urlencode({**fixed, parameter['name']: value})}")
                if parameter["name"] not in ("cursor", "limit") and len(found) % 3 == 0:
                    more = {**fixed, "group_by": "tenant,team", "limit": 2, parameter["name"]: value}
                    found.append(f"{path}?{urlencode(more)}")
        found += [f"{path}?{urlencode({**fixed, 'nothing': '1'})}", f"{path}?since=all&since=all", f"{path}?%ff=%ff"]
    return found


def ids(world: World) -> list[str]:
    """Of a call of each tenant, and of none."""
    return [identity.text(call_id) for call_id in (world.acme.call_id, world.bolt.call_id, b"\x01" * 16)]


def values(world: World, parameter: dict[str, Any]) -> list[str]:
    """Every value that the description names, its example, what the other tenant has, and what is wrong."""
    schema = parameter["schema"]
    named: list[str] = schema.get("enum") or schema.get("items", {}).get("enum") or []
    example: str | list[str] = parameter.get("example", "x")
    bounds = [str(schema[key]) for key in ("minimum", "maximum") if key in schema]
    only_bolt = ["bolt", "secret", "feature-0", "mail", "gpt-4o-2024-08-06", "openai", "shop", "prod", "ok", "chat"]
    return [*named, *bounds, ",".join(example) if isinstance(example, list) else example, "", "x" * 3000, *only_bolt]


def test_nothing_is_told_of_another_tenant(world: World) -> None:
    asked = requests(world)
    assert len(asked) > 300
    before = {"acme reads": world.told(asked, "acme reads"), "acme both": world.told(asked[::7], "acme both")}
    house = world.told(asked, "house reads")
    assert {status for status, _ in before["acme reads"].values()} == {200, 400, 404}
    # bolt: fewer and more calls a group, groups of its own, one that is linked to another producer's record.
    theirs = [world.bolt, *calls_of("bolt", 9), *calls_of("bolt", 3, environment="prod", provider="anthropic")]
    assert post(world, "logs", logs(theirs).SerializeToString(), "house sends").status == 200
    span = SpanOf({"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}, trace_id=TRACE, span_id=SPAN)
    assert post(world, "traces", traces([span]).SerializeToString(), "house sends").status == 200
    bad = usage_event(tenant="bolt", input_tokens=-1)
    assert post(world, "logs", logs([bad]).SerializeToString(), "house sends").status == 200
    for who, told in before.items():
        after = world.told(asked if who == "acme reads" else asked[::7], who)
        assert [path for path in told if told[path] != after.get(path)] == []
        assert after.keys() == told.keys()
    # That is no accident: whoever may see all is told something else.
    changed = world.told(asked, "house reads")
    differing = [path for path in asked if house[path] != changed[path]]
    assert len(differing) > 50
    assert f"/v1/events/{identity.text(world.bolt.call_id)}" in differing


def test_another_tenants_call_is_told_of_as_one_that_is_not_there(world: World) -> None:
    known, other, none = (world.ask(f"/v1/events/{call_id}", "acme reads") for call_id in ids(world))
    assert known.status == 200
    assert (other.status, other.body, other.headers.keys()) == (none.status, none.body, none.headers.keys())
    assert other.status == 404
    named = json.loads(world.ask("/v1/usage?since=all&tenant=bolt", "acme reads").body)
    unknown = json.loads(world.ask("/v1/usage?since=all&tenant=unknown", "acme reads").body)
    assert named == unknown
    assert (named["rows"], named["total"]["calls"]) == ([], 0)


@pytest.mark.parametrize("who", [None, "nobody's", "over", "revoked"])
def test_without_a_token_that_holds_nothing_is_told(world: World, who: str | None) -> None:
    answers: dict[str, Answer] = {}
    for path, operation in operations(world):
        answer = world.ask(path.replace("{id}", ids(world)[0]), who)
        if operation.get("security") == []:
            assert answer.status == 200, path
        else:
            answers[path] = answer
    assert {answer.status for answer in answers.values()} == {401}
    assert {answer.headers["www-authenticate"] for answer in answers.values()} == {"Bearer"}
    assert {answer.headers["content-type"] for answer in answers.values()} == {"application/problem+json"}
    assert len({answer.body for answer in answers.values()}) == 1
    assert fetch(f"{world.served.http}/v1/logs", b"", bearer(world.tokens.get(who or ""))).status == 401


def test_each_endpoint_wants_its_scope(world: World) -> None:
    for path, operation in operations(world):
        if operation.get("security") == []:
            continue
        asked = path.replace("{id}", ids(world)[0])
        wanted = {
            "admin": 200,
            "house reads": 403 if operation["x-scope"] == "admin" else 200,
            "house sends": 200 if operation["x-scope"] is None else 403,
            "acme sends": 200 if operation["x-scope"] is None else 403,
            "acme reads": 403 if operation["x-all-tenants"] else 200,
        }
        assert {who: world.ask(asked, who).status for who in wanted} == wanted, path
        # Refused is refused, whatever is asked for.
        refused = {world.ask(f"{asked}?tenant={tenant}", "house sends").status for tenant in ("acme", "bolt")}
        assert refused in ({403}, {400})
    assert post(world, "logs", b"", "acme reads").status == 403
    assert post(world, "logs", b"", "admin").status == 200


def test_tokens_are_listed_without_their_secrets(world: World) -> None:
    body = world.ask("/v1/tokens", "admin").body
    listed = json.loads(body)["tokens"]
    assert {"acme"} in [set(token["tenants"] or []) for token in listed]
    for token in world.tokens.values():
        assert token.encode() not in body
        assert tokens.digest(token).encode() not in body


def attempts() -> list[Event]:
    """What `acme` could try to write into what is `bolt`'s."""
    steal: dict[str, Any] = {"response_id": RESPONSE, "trace_id": TRACE, "span_id": SPAN}
    outcome = Event(
        {"genai_meter.outcome.name": "won", "genai_meter.outcome.id": "T-1", "genai_meter.tenant": "bolt"},
        name="genai_meter.outcome",
    )
    return [usage_event(tenant="bolt"), usage_event(tenant="bolt", **steal), outcome]


def test_nothing_is_written_for_another_tenant(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    asked = requests(world)[::5]
    before = world.told(asked, "bolt reads")
    events = attempts()
    answer = post(world, "logs", logs(events).SerializeToString(), "acme sends")
    partial = ExportLogsServiceResponse.FromString(answer.body).partial_success
    reason = "the token that sent it may not write for this tenant"
    assert (answer.status, partial.rejected_log_records, partial.error_message) == (200, len(events), reason)
    as_json = post(world, "logs", orjson.dumps(logs_json(events)), "acme sends", "application/json")
    assert json.loads(as_json.body) == {
        "partialSuccess": {"rejectedLogRecords": str(len(events)), "errorMessage": reason}
    }
    span = SpanOf({**usage_event(tenant="bolt").attributes}, trace_id=TRACE, span_id=b"\x33" * 8)
    answer = post(world, "traces", traces([span]).SerializeToString(), "acme sends")
    assert ExportTraceServiceResponse.FromString(answer.body).partial_success.rejected_spans == 1
    untyped: Any = grpc
    with untyped.insecure_channel(world.served.grpc) as channel:
        call = channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")
        metadata = (("authorization", f"Bearer {world.tokens['acme sends']}"),)
        told = call(logs(events).SerializeToString(), timeout=60, metadata=metadata)
        assert ExportLogsServiceResponse.FromString(told).partial_success.rejected_log_records == len(events)
        for metadata, code in (
            ((), grpc.StatusCode.UNAUTHENTICATED),
            ((("authorization", f"Bearer {world.tokens['acme reads']}"),), grpc.StatusCode.PERMISSION_DENIED),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call(logs(events).SerializeToString(), timeout=60, metadata=metadata)
            refusal: Any = caught.value
            assert refusal.code() is code
    # Reading the quarantine again, as the operator does after an upgrade, lets none of it in.
    config = str(world.served.data / "config.yaml")
    assert main(["quarantine", "retry", "--config", config, "--data-dir", str(world.served.data)]) in (0, 1)
    assert "0 can be read now" in capsys.readouterr().out
    assert world.told(asked, "bolt reads") == before


def test_a_call_of_another_tenant_is_not_taken_over_by_one_of_ones_own(world: World) -> None:
    """Even with the ids of the other's call: equal call id, response id, span, trace."""
    asked = requests(world)[::5]
    target = usage_event(tenant="bolt", response_id=RESPONSE + "2", trace_id=b"\x44" * 16, span_id=b"\x55" * 8)
    # Told of by a span alone, so that a better account may come.
    span = SpanOf(target.attributes, trace_id=b"\x44" * 16, span_id=b"\x55" * 8)
    assert post(world, "traces", traces([span]).SerializeToString(), "house sends").status == 200
    before = world.told(asked, "bolt reads")
    mine = [
        usage_event(tenant="acme", call_id=target.call_id),
        usage_event(tenant="acme", response_id=RESPONSE + "2", service="elsewhere", instance="1"),
        usage_event(tenant="acme", trace_id=b"\x44" * 16, span_id=b"\x55" * 8),
        usage_event(tenant=None, response_id=RESPONSE + "2", instance="2"),
    ]
    answer = post(world, "logs", logs(mine).SerializeToString(), "acme sends")
    assert (answer.status, answer.body) == (200, b"")
    foreign = SpanOf(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.model": "gpt-4o-2024-08-06",
            "gen_ai.response.id": RESPONSE + "2",
            "gen_ai.usage.input_tokens": 1000,
            "gen_ai.usage.output_tokens": 100,
            "genai_meter.tenant": "acme",
        },
        trace_id=b"\x44" * 16,
        span_id=b"\x66" * 8,
        parent=b"\x55" * 8,
    )
    assert post(world, "traces", traces([foreign]).SerializeToString(), "acme sends").status == 200
    assert world.told(asked, "bolt reads") == before
    # What was one's own is there, as one's own.
    (_, *others) = mine
    kept = [world.ask(f"/v1/events/{identity.text(event.call_id)}", "acme reads") for event in others]
    assert [json.loads(answer.body).get("tenant") for answer in kept] == ["acme"] * 3
    assert world.ask(f"/v1/events/{identity.text(target.call_id)}", "acme reads").status == 404


def test_what_names_no_tenant_belongs_to_the_tokens_only_one(world: World) -> None:
    unnamed = usage_event(call_id=new_id())
    assert post(world, "logs", logs([unnamed]).SerializeToString(), "acme sends").body == b""
    path = f"/v1/events/{identity.text(unnamed.call_id)}"
    assert json.loads(world.ask(path, "acme reads").body)["tenant"] == "acme"
    assert world.ask(path, "bolt reads").status == 404
    several = post(world, "logs", logs([usage_event()]).SerializeToString(), "acme both")
    partial = ExportLogsServiceResponse.FromString(several.body).partial_success
    assert partial.error_message == "it names no tenant, and the token that sent it has several"


def test_an_outcome_without_a_tenant_is_anothers_under_another_token(tmp_path: Path) -> None:
    file = tmp_path / "data" / "tokens.json"
    senders = [make_token(file, "ingest", tenants=[tenant]) for tenant in ("acme", "bolt")]
    event = Event({"genai_meter.outcome.name": "won", "genai_meter.outcome.id": "T-1"}, name="genai_meter.outcome")
    with Served(tmp_path / "data", {"access": {"tokens": file.name}}) as served:
        body = logs([event]).SerializeToString()
        for token in (*senders, *senders):
            headers = {**bearer(token), "content-type": "application/x-protobuf"}
            assert fetch(f"{served.http}/v1/logs", body, headers).status == 200
        reader = open_readonly(served.ledger)
        found = reader.beside("outcome", Query(("tenant",)))
        reader.close()
    assert sorted((row["tenant"], row["events"]) for row in found) == [("acme", 1), ("bolt", 1)]
