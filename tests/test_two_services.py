"""The example: who pays is named in the first service, and is on the ledger's rows of the second."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from environments import ROOT, WEB

from examples.provider import Provider
from examples.two_services.__main__ import TENANTS, run

EXAMPLE = ROOT / "examples" / "two_services"


def test_tenant_and_feature_of_the_first_are_charged_for_the_second(provider: Provider, tmp_path: Path) -> None:
    answers = run(WEB.python(), provider.url, tmp_path)
    assert all(json.loads(answer)["summary"] for answer in answers)
    with closing(sqlite3.connect(f"file:{tmp_path / 'ledger.db'}?mode=ro", uri=True)) as ledger:
        columns = "service, tenant, feature, response_id, trace_id"
        rows = ledger.execute(f"SELECT {columns} FROM usage ORDER BY start").fetchall()
    assert [row[:3] for row in rows] == [("worker", tenant, "summaries") for tenant in TENANTS]
    assert [row[3] for row in rows] == [answer.response_id for answer in provider.served]
    # One trace for each request, from the front to the call.
    assert len({row[4] for row in rows}) == len(TENANTS)


def test_neither_service_knows_of_the_meter() -> None:
    for name in ("front.py", "worker.py"):
        assert "import genai_meter" not in (EXAMPLE / name).read_text()
        assert "from genai_meter" not in (EXAMPLE / name).read_text()
