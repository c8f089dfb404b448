"""Exchanges of the recorded traffic that cannot come out equal, and why. Everything else is a failure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CACHED: Final = "more cached tokens told than tokens (Grok on Azure): the total holds, the cached part is cut"
IMAGE: Final = "which of the cached tokens are the image's is not told (Grok on Azure)"
AUDIO: Final = "tokens and seconds of the same audio are told (Voxtral): the tokens are counted"
NULL: Final = "this server writes `usage: null` in each chunk, asked or not; hiding the usage we ask for hides it too"

GROK_CACHED: Final = tuple(
    f"other-chat-{digest}"
    for digest in (
        "535b9afcc298",
        "601d3c2f29cd",
        "61955c5270e5",
        "62c23c989bf8",
        "6ab85d67d691",
        "731c30cc775a",
        "880d5ea86a4b",
        "9426a87b4082",
        "b5e5c7a44d4e",
        "c2b691dba808",
        "c86da7cb8671",
        "d027294a49bc",
        "dc7010f66998",
        "eecb91a74430",
        "fcec2cd3ea60",
    )
)
GROK_IMAGE: Final = ("other-chat-5a9310bf656b", "other-chat-caf7e46167ec")
VOXTRAL: Final = (
    "mistralai-audio-5609438e9f03",
    "mistralai-audio-c5c5f56409e5",
    "mistralai-chat-4d87b367ca1c",
    "mistralai-chat-f40938ca533a",
)

USAGE: Final[Mapping[str, str]] = {
    "openai-chat-c3be12a1bb2d": "4 output tokens of which 3 reasoning and 4 audio: a hand-made answer",
    "openrouter-chat-3206127a5927": "the same tokens told as read from the cache and as written: read wins",
    "openrouter-chat-678566e127d0": "error and usage in one chunk: the client raises before anyone sees the usage",
    **dict.fromkeys(VOXTRAL, AUDIO),
    **dict.fromkeys(GROK_CACHED, CACHED),
    **dict.fromkeys(GROK_IMAGE, IMAGE),
}
"""Id → why the usage differs from the truth file."""

VALUES: Final[Mapping[str, str]] = dict.fromkeys(
    (
        "huggingface-chat-cf7c5f7cbfdb",
        "other-completions-0847fa76396c",
        "other-completions-1693d60f5bf2",
        "together-chat-005fac1918e2",
        "together-chat-f5486e25fb0f",
    ),
    NULL,
)
"""Id → why the caller sees a difference."""


def reason(exchange_id: str, problem: str) -> str | None:
    """Why an exchange has this problem; None when it should not have it."""
    if problem == "usage":
        return USAGE.get(exchange_id)
    return VALUES.get(exchange_id) if problem == "values" else None
