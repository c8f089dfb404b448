"""Overlays: every mistake is named by file, line and field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from genai_meter_exporter.prices.overlap import clashes
from genai_meter_exporter.prices.overlay_yaml import OverlayInvalid, compile_files, compile_texts
from prices_kit import DISCOUNT, HEAD, indented

# --- mistakes -----------------------------------------------------------------------------------------
GOOD = {
    "id": "e",
    "kind": "price",
    "match": "{provider: local, model: m}",
    "effective_from": "2026-01-01",
    "rates": '{input: {usd: "1", per: 1000000}}',
}


def _yaml(**changes: str | None) -> str:
    fields = {**GOOD, **changes}
    lines = [f"{key}: {value}" for key, value in fields.items() if value is not None]
    return HEAD + "  - " + "\n    ".join(lines) + "\n"


DISCOUNTED = {"kind": "discount", "rates": None, "multiplier": '"0.9"'}
COMMITTED = {
    "kind": "commitment",
    "rates": None,
    "unit": "hour",
    "quantity": "1",
    "unit_usd": '"1"',
    "allocate_by": "none",
}


_TIER = '{above_input_tokens: 9, rates: {input: {usd: "2", per: 1}}}'


@pytest.mark.parametrize(
    ("text", "line", "field", "message"),
    [
        (_yaml(rates="{input: {usd: 1.25, per: 1000000}}"), 8, "entries[0].rates.input.usd", "floating-point"),
        (_yaml(rates='{inptu: {usd: "1", per: 1000000}}'), 8, "entries[0].rates.inptu", "unknown bucket 'inptu'"),
        (_yaml(rates='{input: {usd: "1,5", per: 1000000}}'), 8, "entries[0].rates.input.usd", "decimal number as text"),
        (_yaml(rates='{input: {usd: "-1", per: 1000000}}'), 8, "entries[0].rates.input.usd", "decimal number as text"),
        (_yaml(rates='{input: {usd: "1", per: 0}}'), 8, "entries[0].rates.input.per", "whole number above 0"),
        (_yaml(rates='{input: {usd: "1"}}'), 8, "entries[0].rates.input.per", "missing"),
        (_yaml(rates='{input: {usd: "1", per: 1, pre: 2}}'), 8, "entries[0].rates.input.pre", "unknown field"),
        (_yaml(rates="{input: 5}"), 8, "entries[0].rates.input", "must be {usd"),
        (_yaml(rates="{}"), 8, "entries[0].rates", "mapping of bucket"),
        (_yaml(rates=None), 4, "entries[0].rates", "missing"),
        (_yaml(id=None), 4, "entries[0].id", "missing"),
        (_yaml(id="7"), 4, "entries[0].id", "must be text"),
        (_yaml(kind="cheap"), 5, "entries[0].kind", "'cheap' is none of price"),
        (_yaml(kind="[price]"), 5, "entries[0].kind", "['price'] is none of price"),
        (_yaml(**DISCOUNTED, applies_to="{a: 1}"), 9, "entries[0].applies_to", "{'a': 1} is none of tokens"),
        (_yaml(match="{provider: a, weekday: [[sat]]}"), 6, "entries[0].match.weekday", "['sat'] is none of mon"),
        (_yaml(effective_from="2026-02-30"), 7, "entries[0].effective_from", "2026-02-30: day is out of range"),
        ("\0", 1, "(document)", "no YAML: unacceptable character"),
        (_yaml(match=None), 4, "entries[0].match", "missing"),
        (_yaml(match="{}"), 6, "entries[0].match", "must name at least"),
        (_yaml(match="{provider: 7}"), 6, "entries[0].match.provider", "must be a pattern as text"),
        (_yaml(match="{provider: a, colour: red}"), 6, "entries[0].match.colour", "unknown dimension"),
        (_yaml(match="{provider: a, weekday: [sut]}"), 6, "entries[0].match.weekday", "'sut' is none of mon"),
        (_yaml(match='{provider: a, window: "9-18"}'), 6, "entries[0].match.window", "not a time of day"),
        (_yaml(match='{provider: a, window: "09:00"}'), 6, "entries[0].match.window", "must be like 01:00-04:00"),
        (_yaml(match="{provider: a, weekday: sat, tz: Mars/X}"), 6, "entries[0].match.tz", "unknown time zone"),
        (_yaml(match="{provider: a, tz: UTC}"), 6, "entries[0].match.tz", "needs `weekday` or `window`"),
        (
            _yaml(match="{provider: a, geo: eu, inference_geo: us}"),
            6,
            "entries[0].match.inference_geo",
            "already there",
        ),
        (_yaml(effective_from="7", effective_to="2025-01-01"), 7, "entries[0].effective_from", "must be text, not 7"),
        (_yaml(effective_from="0001-01-01T00:00:00+14:00"), 7, "entries[0].effective_from", "out of range"),
        (_yaml(effective_to="9999-12-31T23:59:59-14:00"), 9, "entries[0].effective_to", "out of range"),
        (_yaml(effective_from=None), 4, "entries[0].effective_from", "missing"),
        (_yaml(effective_from="soon"), 7, "entries[0].effective_from", "must be an ISO date"),
        (_yaml(effective_to="2025-01-01"), 9, "entries[0].effective_to", "not after effective_from"),
        (_yaml(currency="EUR"), 4, "entries[0].fx", "need fx with rate"),
        (_yaml(currency="euro"), 9, "entries[0].currency", "ISO 4217"),
        (_yaml(fx="{rate: 1}"), 9, "entries[0].fx", "other than USD"),
        (
            _yaml(currency="EUR", fx='{rate: "0", as_of: 2026-01-01, source: x}'),
            10,
            "entries[0].fx.rate",
            "must be above 0",
        ),
        (
            _yaml(currency="EUR", fx="{rate: 1.08, as_of: 2026-01-01, source: x}"),
            10,
            "entries[0].fx.rate",
            "floating-point",
        ),
        (_yaml(tiers="5"), 9, "entries[0].tiers", "must be a list"),
        (_yaml(tiers="[5]"), 9, "entries[0].tiers[0]", "above_input_tokens"),
        (
            _yaml(tiers='[{above_input_tokens: x, rates: {input: {usd: "1", per: 1}}}]'),
            9,
            "entries[0].tiers[0].above_input_tokens",
            "whole number",
        ),
        (
            _yaml(tiers='[{above_input_tokens: 1, rates: {output: {usd: "1", per: 1}}}]'),
            9,
            "entries[0].tiers[0].rates.output",
            "no base rate",
        ),
        (_yaml(tiers=f"[{_TIER}, {_TIER}]"), 9, "entries[0].tiers[1].above_input_tokens", "already is a tier above 9"),
        (_yaml(**{**DISCOUNTED, "multiplier": "0.9"}), 8, "entries[0].multiplier", "floating-point"),
        (_yaml(**{**DISCOUNTED, "multiplier": '"1.1"'}), 8, "entries[0].multiplier", "use kind multiplier"),
        (_yaml(**DISCOUNTED, applies_to="[toknes]"), 9, "entries[0].applies_to", "'toknes' is none of"),
        (_yaml(**DISCOUNTED, stack="first"), 9, "entries[0].stack", "'first' is none of list, after_list"),
        (_yaml(**DISCOUNTED, priority="high"), 9, "entries[0].priority", "whole number"),
        (_yaml(**DISCOUNTED, source="5"), 9, "entries[0].source", "must be text"),
        (_yaml(**DISCOUNTED, recorded_at="then"), 9, "entries[0].recorded_at", "ISO date"),
        (_yaml(**DISCOUNTED, recorded_by="[x]"), 9, "entries[0].recorded_by", "must be text"),
        (_yaml(**DISCOUNTED, expires_review="x"), 9, "entries[0].expires_review", "ISO date"),
        (_yaml(**DISCOUNTED, note="1"), 9, "entries[0].note", "must be text"),
        (_yaml(**DISCOUNTED, mutliplier='"1"'), 9, "entries[0].mutliplier", "unknown field"),
        (_yaml(**DISCOUNTED, model="x"), 9, "entries[0].model", "unknown field for an entry of kind discount"),
        (_yaml(**{**COMMITTED, "quantity": '"x"'}), 9, "entries[0].quantity", "decimal number"),
        (_yaml(**{**COMMITTED, "unit_usd": "1"}), 10, "entries[0].unit_usd", "decimal number as text"),
        (_yaml(**{**COMMITTED, "unit": None}), 4, "entries[0].unit", "missing"),
        (_yaml(**{**COMMITTED, "allocate_by": "luck"}), 11, "entries[0].allocate_by", "'luck' is none of"),
        (_yaml(**COMMITTED, currency="EUR"), 12, "entries[0].currency", "a commitment is in USD: `unit_usd`"),
        (_yaml(kind="alias", rates=None), 4, "entries[0].model", "missing"),
        (
            _yaml(kind="alias", rates=None, model="m", set="{sku: a, azure_sku: b}"),
            9,
            "entries[0].set.azure_sku",
            "is 'sku', which is already there",
        ),
        (
            _yaml(kind="alias", rates=None, model="m", set="{colour: x}"),
            9,
            "entries[0].set.colour",
            "unknown dimension",
        ),
        (_yaml(kind="alias", rates=None, model="m", set="{sku: 5}"), 9, "entries[0].set.sku", "must be text"),
        (_yaml(kind="minimum", rates=None, minimum="{inptu: 5}"), 8, "entries[0].minimum.inptu", "unknown bucket"),
        (_yaml(kind="minimum", rates=None, minimum="5"), 8, "entries[0].minimum", "mapping of bucket"),
        (
            _yaml(kind="free_allowance", rates=None, allowance="{web_search: 5}", period="year"),
            9,
            "entries[0].period",
            "'year' is none of day, month",
        ),
        (HEAD + "  - 5\n", 4, "entries[0]", "an entry is a mapping"),
        (HEAD.replace("acme", "5") + "  []\n", 2, "book", "missing"),
        (HEAD.replace("overlay/1", "overlay/2") + "  []\n", 1, "schema", "must be 'pricebook-overlay/1'"),
        (HEAD.replace("entries", "entry") + "  []\n", 1, "entries", "must be a list"),
        ("just text\n", 1, "(document)", "an overlay is a mapping"),
        ("", 1, "(document)", "an overlay is a mapping"),
        ("a: [1\nb: 2\n", 2, "(document)", "no YAML"),
        (_yaml() + "    id: again\n", 9, "entries[0].id", "given twice"),
        (_yaml(note="!!python/object:os.system {}"), 9, "entries[0].note", "not allowed"),
    ],
)
def test_a_mistake_is_named_by_file_line_and_field(text: str, line: int, field: str, message: str) -> None:
    with pytest.raises(OverlayInvalid) as caught:
        compile_texts([(text, "prices/acme.yaml")])
    found = [str(problem) for problem in caught.value.problems]
    assert any(p.startswith(f"prices/acme.yaml:{line}: {field}: ") and message in p for p in found), found


def test_all_mistakes_are_named_at_once() -> None:
    text = _yaml(rates="{inptu: {usd: 1.5, per: 0}}", effective_from="soon")
    with pytest.raises(OverlayInvalid) as caught:
        compile_texts([(text, "a.yaml")])
    assert {problem.field for problem in caught.value.problems} >= {
        "entries[0].rates.inptu",
        "entries[0].rates.inptu.usd",
        "entries[0].rates.inptu.per",
        "entries[0].effective_from",
    }


def _pair(first: str, second: str) -> str:
    rates = '    rates: {input: {usd: "1", per: 1}}\n'
    return f"{HEAD}  - id: a\n    kind: price\n{first}{rates}  - id: b\n    kind: price\n{second}{rates}"


def _entry(match: str, start: str, end: str = "null", more: str = "") -> str:
    return f"    match: {match}\n    effective_from: {start}\n    effective_to: {end}\n{more}"


@pytest.mark.parametrize(
    ("first", "second", "overlaps"),
    [
        (_entry("{provider: a}", "2026-01-01"), _entry("{provider: a}", "2026-06-01"), True),
        (_entry("{provider: a}", "2026-01-01", "2026-06-01"), _entry("{provider: a}", "2026-06-01"), False),
        (_entry("{provider: a}", "2026-01-01", "2026-06-02"), _entry("{provider: a}", "2026-06-01"), True),
        (_entry("{model: 'gpt-*'}", "2026-01-01"), _entry("{model: '*-mini'}", "2026-01-01"), True),
        (_entry("{model: 'gpt-*'}", "2026-01-01"), _entry("{model: 'claude-*'}", "2026-01-01"), False),
        (_entry("{model: m, region: eu}", "2026-01-01"), _entry("{model: m, region: us}", "2026-01-01"), False),
        (_entry("{model: m, region: eu}", "2026-01-01"), _entry("{model: m}", "2026-01-01"), True),
        (_entry("{model: m}", "2026-01-01"), _entry("{model: m}", "2026-01-01", more="    priority: 1\n"), False),
        (_entry("{model: m, weekday: sat}", "2026-01-01"), _entry("{model: m, weekday: sun}", "2026-01-01"), False),
        (
            _entry("{model: m, window: '01:00-04:00'}", "2026-01-01"),
            _entry("{model: m, window: '04:00-06:00'}", "2026-01-01"),
            False,
        ),
        (
            _entry("{model: m, window: '01:00-04:00'}", "2026-01-01"),
            _entry("{model: m, window: '03:00-06:00'}", "2026-01-01"),
            True,
        ),
    ],
)
def test_overlapping_entries_of_one_priority_are_an_error(first: str, second: str, overlaps: bool) -> None:
    text = _pair(first, second)
    if not overlaps:
        assert len(compile_texts([(text, "a.yaml")])["entries"]) == 2
        return
    with pytest.raises(OverlayInvalid) as caught:
        compile_texts([(text, "a.yaml")])
    (problem,) = caught.value.problems
    assert problem.field == "entries[1].match"
    assert problem.message.startswith("'b' overlaps 'a' (line 4): ")


def test_prices_of_different_buckets_do_not_overlap() -> None:
    a: dict[str, Any] = {
        "kind": "price",
        "priority": 0,
        "match": {"model": ["m"]},
        "effective_from": "2026-01-01",
        "rates": {"input": {}},
    }
    assert list(clashes([(0, a), (1, {**a, "rates": {"output": {}}})])) == []
    assert len(list(clashes([(0, a), (1, {**a, "rates": {"input": {}, "output": {}}})]))) == 1


def test_equal_discounts_at_one_time_are_an_error_and_equal_ids_too() -> None:
    text = HEAD + indented(DISCOUNT) + indented(DISCOUNT)
    with pytest.raises(OverlayInvalid) as caught:
        compile_texts([(text, "a.yaml")])
    assert [(p.line, p.field) for p in caught.value.problems] == [(10, "entries[1].id"), (12, "entries[1].match")]
    assert "already used on line 4" in caught.value.problems[0].message


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "overlay.yaml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(OverlayInvalid, match=r"overlay.yaml:1: \(document\): no UTF-8 text"):
        compile_files([file])


def test_mistakes_are_told_in_the_order_of_the_file() -> None:
    """The same order each time, whatever the hashes of this run."""
    text = _yaml(zebra="1", apple="2", match="{provider: a, red: x, blue: y}") + "colour: green\nabove: all\n"
    with pytest.raises(OverlayInvalid) as caught:
        compile_texts([(text, "o.yaml")])
    told = [problem.field for problem in caught.value.problems]
    entry = ["entries[0].zebra", "entries[0].apple", "entries[0].match.red", "entries[0].match.blue"]
    assert told == ["colour", "above", *entry]
