"""Two other instrumentations, a framework and the client's own tracing on one call: one charge, one tidy tree."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from environments import TREE
from exporter_kit import Served
from interop_kit import run
from prices_kit import SURE

from examples.provider import Provider

SHOWN = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.cost.amount",
    "gen_ai.workflow.name",
    "genai_meter.step",
)


def tree(spans: list[dict[str, Any]], parent: str | None = None, depth: int = 0) -> list[str]:
    """The spans as indented lines."""
    lines: list[str] = []
    for span in [span for span in spans if span["parent"] == parent]:
        told = ", ".join(f"{k.rpartition('.')[2]}={span['attributes'][k]}" for k in SHOWN if k in span["attributes"])
        lines.append(f"{'  ' * depth}{span['name']}  ({span['scope']}){': ' + told if told else ''}")
        lines += tree(spans, span["id"], depth + 1)
    return lines


def test_one_charge_and_the_tree(
    provider: Provider, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with Served(tmp_path / "exporter") as served:
        spans = run(TREE, "tree", provider.url, served, tmp_path / "spans.json")
        served.stop()
        with closing(sqlite3.connect(f"file:{served.ledger}?mode=ro", uri=True)) as ledger:
            ledger.row_factory = sqlite3.Row
            rows = [dict(row) for row in ledger.execute("SELECT * FROM usage ORDER BY start")]
    record_property("table", "\n".join(tree(spans)))
    charged = [row for row in rows if row["cost"] is not None]
    assert [row["response_id"] for row in charged] == [answer.response_id for answer in provider.served]
    assert [(row["input_tokens"], row["output_tokens"]) for row in charged] == [
        (answer.usage["input_tokens"], answer.usage["output_tokens"]) for answer in provider.served if answer.usage
    ]
    assert [(row["workflow"], row["step"], row["cost_status"]) for row in charged] == [
        ("desk", "research", SURE),
        ("desk", "write", SURE),
    ]
    # OpenInference reads no usage from a raw response: its record is kept beside, and charges nothing.
    assert [row["source"] for row in rows if row["cost"] is None] == ["openinference.instrumentation.anthropic/span"]
    metered = [span["id"] for span in spans if "genai_meter.call.id" in span["attributes"]]
    assert metered == [row["span_id"] for row in charged]
    assert [span for span in spans if span["scope"] == "genai_meter"] == []
    # All in one trace under the request, and the spans that are priced are the innermost.
    assert len(tree(spans)) == len(spans) == 7
    assert not [span for span in spans if span["parent"] in metered]
    assert spans[-1]["name"] == "POST /ask"
