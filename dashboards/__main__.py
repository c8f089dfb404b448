"""Write the JSON of every dashboard: `python -m dashboards [DIRECTORY]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import budgets, ledger, overview, product, providers, quality, service, tenants
from dashboards.pages import Page, dashboard_of

PAGES: Final[tuple[Page, ...]] = (
    overview.PAGE,
    budgets.PAGE,
    service.PAGE,
    product.PAGE,
    tenants.PAGE,
    providers.PAGE,
    quality.PAGE,
    *ledger.PAGES,
)


def render(page: Dashboard) -> str:
    """The JSON text of a dashboard, as it is checked in."""
    return json.dumps(page, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def main() -> int:
    """Write all dashboards."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    directory.mkdir(parents=True, exist_ok=True)
    for page in PAGES:
        (directory / page.file).write_text(render(dashboard_of(page)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
