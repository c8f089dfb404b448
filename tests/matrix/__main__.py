"""`python -m tests.matrix FAMILY… [--every]`: the tables of some families; fails when something is wrong."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.matrix.families import FAMILIES
from tests.matrix.runner import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("families", nargs="*", choices=[*FAMILIES, []], help="all when none is named")
    parser.add_argument("--every", action="store_true", help="every version, not only oldest and newest")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        outcome = run(Path(scratch), *options.families, every=options.every)
    print("\n".join([outcome.text(), "", *outcome.wrong]))
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
