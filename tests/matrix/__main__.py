"""`python -m tests.matrix FAMILY…`: the tables of some families; fails when something is wrong."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.matrix import compatibility
from tests.matrix.families import FAMILIES
from tests.matrix.runner import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("families", nargs="*", choices=[*FAMILIES, []], help="all when none is named")
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--every", dest="rows", action="store_const", const="every", help="every version")
    rows.add_argument("--newest", dest="rows", action="store_const", const="unpinned", help="the newest there is")
    parser.add_argument("--write", action="store_true", help=f"write {compatibility.PAGE.name}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        outcome = run(Path(scratch), *options.families, rows=options.rows or "ends")
    print("\n".join([outcome.text(), "", *outcome.wrong]))
    if options.write:
        compatibility.write(outcome)
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
