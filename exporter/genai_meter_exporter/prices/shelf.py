"""Where updated books are kept."""

from __future__ import annotations

import os
from pathlib import Path

from genai_meter.pricing.resolver import BOOK_VARIABLE


def books_directory() -> Path:
    """Where updated books are kept: beside the one in use, else in the user's data directory."""
    in_use = os.environ.get(BOOK_VARIABLE)
    if in_use:
        return Path(in_use).parent
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data) / "genai-meter" / "books"


def archives(directory: Path) -> list[Path]:
    """Books kept there; old ones stay, so that any event can be priced again."""
    return sorted(directory.glob("*.json.gz"))
