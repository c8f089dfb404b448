"""What in recorded traffic cannot come out equal, and why: rules over the recording itself."""

from __future__ import annotations

from typing import Any, Final

from tests.traffic.recordings import Exchange, fields, sse_events
from tests.traffic.server import asked_for_usage

CACHED: Final = "more cached tokens told than input tokens: the total holds, the cached part is cut"
OUTPUT: Final = "more reasoning, audio and image tokens told than output tokens: the total holds, a part is cut"
CACHED_MODALITY: Final = "which of the cached tokens are the image's or the audio's is not told"
BOTH: Final = "tokens and seconds of the same audio are told: what is billed is counted"
ERROR: Final = "error and usage in one chunk: the client raises before anyone sees the usage"
NULL: Final = "the server writes `usage: null` in each chunk, asked or not; hiding the usage we ask for hides it too"


def usage(exchange: Exchange) -> dict[str, str]:
    """Fields of the truth that contradict each other → why the metered usage may differ there."""
    truth: dict[str, Any] = dict(exchange.truth or {})
    n = {name: value for name, value in truth.items() if isinstance(value, (int, float))}
    found: dict[str, str] = {}
    if n.get("cache_read", 0) + n.get("cache_write", 0) > n.get("input_tokens", 0):
        found |= dict.fromkeys(("cache_read", "cache_write"), CACHED)
    if n.get("reasoning", 0) + n.get("audio_out", 0) + n.get("image_out", 0) > n.get("output_tokens", 0):
        found |= dict.fromkeys(("reasoning", "audio_out", "image_out"), OUTPUT)
    if n.get("cache_read") and "cached_audio" not in n:
        found |= dict.fromkeys(("audio_in", "image_in"), CACHED_MODALITY)
    if n.get("audio_seconds") and n.get("audio_in"):
        found |= dict.fromkeys(("audio_seconds", "audio_in"), BOTH)
    if exchange.framing == "sse" and truth and b'"error"' in exchange.body:
        events = [fields(event) for event in sse_events(exchange.body)]
        if any(event.get("error") and event.get("usage") for event in events):
            names = ("input_tokens", "output_tokens", "cache_read", "cache_write", "reasoning", "source")
            found |= dict.fromkeys(names, ERROR)
    return found


def values(exchange: Exchange) -> str | None:
    """Why the caller may see a difference; None when nothing may differ."""
    if not exchange.streaming or exchange.framing != "sse" or asked_for_usage(exchange.request):
        return None
    if not exchange.bare_path.endswith("/completions") or b'"usage"' not in exchange.body:
        return None
    events = (fields(event) for event in sse_events(exchange.body))
    return NULL if any("usage" in event and event["usage"] is None for event in events) else None
