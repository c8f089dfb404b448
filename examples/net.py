"""Reading over HTTP from what runs on loopback."""

from __future__ import annotations

import urllib.request


def get(url: str, timeout: float = 20) -> bytes:
    """The body of an HTTP answer; OSError when there is none or it is no success."""
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return answer.read()


def serves(url: str) -> bool:
    """Whether `url` answers with success now."""
    try:
        get(url)
    except OSError:
        return False
    return True
