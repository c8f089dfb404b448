"""Who pays, by rules of the exporter: filled in at ingest, the application's word first, read again on SIGHUP."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from exporter_kit import Served, SpanOf, traces, usage_event
from genai_meter_exporter.attribution_map import AttributionMap
from genai_meter_exporter.cli import main
from genai_meter_exporter.config import Config
from ledger_kit import batch_of

KEY = "2026-11:00112233445566778899aabbccddeeff"


def applied(rules: list[dict[str, Any]], **event: Any) -> dict[str, Any]:
    """The attribution of one event after the rules."""
    batch = batch_of([usage_event(**event)])
    config = Config.model_validate({"attribution": {"rules": rules}})
    AttributionMap(config.attribution.rules).apply(batch.records)
    (record,) = batch.records
    return {name: record.values.get(name) for name in ("tenant", "team", "feature", "owner") if record.values.get(name)}


@pytest.mark.parametrize(
    ("match", "event"),
    [
        ({"api_key": KEY}, {"api_key": KEY}),
        ({"service": "shop"}, {}),
        ({"environment": "prod"}, {}),
        ({"route": "/search*"}, {"route": "/search/suggest"}),
        ({"model": "gpt-4o-*"}, {}),
        ({"model": "gpt-4o"}, {"model": None}),
        ({"account": ["other", "proj_1"]}, {"account": "proj_1"}),
        ({"provider": "openai", "operation": "chat", "service": "s*p"}, {}),
    ],
)
def test_a_rule_for_what_is_known_of_the_call(match: dict[str, Any], event: dict[str, Any]) -> None:
    assert applied([{"match": match, "set": {"team": "search"}}], **event) == {"team": "search"}


@pytest.mark.parametrize(
    ("match", "event"),
    [
        ({"api_key": KEY}, {}),
        ({"api_key": KEY}, {"api_key": KEY[:-1]}),
        ({"service": "Shop"}, {}),
        ({"service": "shop", "route": "/search"}, {"route": "/search/suggest"}),
        ({"model": "gpt-4o"}, {}),
    ],
)
def test_a_rule_for_other_calls_does_nothing(match: dict[str, Any], event: dict[str, Any]) -> None:
    assert applied([{"match": match, "set": {"team": "search"}}], **event) == {}


def test_the_application_comes_first_unless_a_rule_overrides() -> None:
    mild = {"match": {"service": "shop"}, "set": {"team": "rule", "feature": "rule"}}
    assert applied([mild], team="app") == {"team": "app", "feature": "rule"}
    assert applied([{**mild, "override": True}], team="app") == {"team": "rule", "feature": "rule"}


def test_the_first_rule_that_applies_sets_a_field() -> None:
    rules: list[dict[str, Any]] = [
        {"match": {"route": "/none"}, "set": {"team": "zero"}},
        {"match": {"service": "shop"}, "set": {"team": "one"}},
        {"match": {"provider": "openai"}, "set": {"team": "two", "owner": "ann"}},
    ]
    assert applied(rules) == {"team": "one", "owner": "ann"}
    rules.append({"match": {"service": "shop"}, "set": {"team": "four"}, "override": True})
    assert applied(rules) == {"team": "four", "owner": "ann"}


def teams(served: Served) -> list[str | None]:
    """Team of each row."""
    with closing(sqlite3.connect(f"file:{served.ledger}?mode=ro", uri=True)) as ledger:
        return sorted(team for (team,) in ledger.execute("SELECT team FROM usage"))


def test_the_exporter_applies_them_and_reads_them_again(tmp_path: Path) -> None:
    rule: dict[str, Any] = {"match": {"service": "shop"}, "set": {"team": "search"}}
    changed, wrong = {**rule, "set": {"team": "catalogue"}}, {**rule, "set": {"teem": "nobody"}}
    with Served(tmp_path, {"attribution": {"rules": [rule]}}) as served:
        served.send(usage_event(tenant="acme"))
        span = SpanOf({"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "o3"})
        assert served.post("traces", traces([span]).SerializeToString()).status == 200
        served.settled("ledger_events_total", 2)
        assert teams(served) == ["search", "search"]
        assert "changed: attribution;" in served.reload({"attribution": {"rules": [changed]}})
        served.send(usage_event())
        served.settled("ledger_events_total", 3)
        assert "the configuration is kept as it was" in served.reload({"attribution": {"rules": [wrong]}})
        served.send(usage_event())
        served.settled("ledger_events_total", 4)
    assert teams(served) == ["catalogue", "catalogue", "search", "search"]


def test_check_names_every_mistake_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "genai-meter.yaml"
    file.write_text(
        "attribution:\n  rules:\n"
        "    - match: {service: shop, model: ['gpt-4o*', 'o3*']}\n      set: {team: search}\n"
        "    - match: {servce: shop}\n      set: {teem: search}\n"
        "    - match: {service: shop}\n      set: {team: 3}\n      overide: true\n"
        "    - set: {}\n"
    )
    assert main(["config", "check", str(file)]) == 2
    found = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in found] == [f"{file}, line {n}" for n in (5, 6, 8, 9, 10, 10)]
    assert "attribution.rules.1.match: Value error, servce is no field that can stand here; use one of: " in found[0]
    assert "attribution.rules.1.set: Value error, teem is no field" in found[1]
    assert "attribution.rules.2.set.team: Input should be a valid string; got 3" in found[2]
    assert "attribution.rules.2.overide is unknown; remove it or use one of: match, set, override" in found[3]
    assert "attribution.rules.3.match: Field required" in found[4]
    assert "attribution.rules.3.set: Value error, nothing is given; use some of: tenant" in found[5]


def test_check_says_when_all_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "genai-meter.yaml"
    file.write_text("attribution:\n  rules:\n    - {match: {service: shop}, set: {team: search}}\n")
    assert main(["config", "check", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: right; 1 rule(s) of attribution\n"
