"""`python -m tests.traffic DIR`: drive a directory of traffic, print one table, fail when something differs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.traffic.runner import FORMS, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.traffic", description=__doc__)
    parser.add_argument("place", type=Path, help="a directory of *.jsonl.gz files, or one file")
    parser.add_argument("--forms", default=FORMS, help="sync, async, hidden (usage not asked for)")
    parser.add_argument("--providers", help="comma separated; all when absent")
    options = parser.parse_args()
    report = run(options.place, forms=options.forms, providers=options.providers)
    print(report.text())
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
