"""Files that ship beside the code: `alert_rules` and `dashboards`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parent


def directory(name: str) -> Path:
    """The directory `name`: inside the package in a wheel, at the top of the repository in a checkout."""
    for parent in (_PACKAGE, _PACKAGE.parent.parent):
        if (parent / name).is_dir():
            return parent / name
    raise FileNotFoundError(f"{name} is neither in {_PACKAGE} nor beside it: the installation is incomplete")
