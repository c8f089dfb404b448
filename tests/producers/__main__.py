"""`python -m tests.producers [PRODUCER …]`: capture what each real package exports, into tests/fixtures/producers.

All of it comes from the stand-in provider. Left out is what is of this machine (host, process, places in the code), and
texts longer than 200 characters (prompts, mostly).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Final, cast

from examples.provider import Provider
from tests.environments import PRODUCERS, ROOT
from tests.producers import node, running
from tests.producers.relay import Relay

FIXTURES: Final = ROOT / "tests" / "fixtures" / "producers"
_LONG: Final = 200
_LOCAL: Final = ("code.", "host.", "os.", "process.", "thread.")


def main() -> None:
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for producer in sys.argv[1:] or running.NAMES:
        with Provider() as provider, Relay(None) as relay:
            running.run(producer, relay.url, provider)
            told = {
                "producer": producer,
                "packages": packages(producer),
                "served": running.served_by(provider),
                "requests": [{"signal": signal, "body": _short(body)} for signal, body in relay.requests],
            }
        path = FIXTURES / f"{producer}.json"
        path.write_text(json.dumps(told, separators=(",", ":")) + "\n", encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {len(relay.requests)} requests, {len(told['served'])} answers")


def packages(producer: str) -> Mapping[str, str]:
    """The packages it was captured from."""
    if producer in running.VERCEL:
        return node.VERCEL[running.VERCEL[producer].partition("-")[0]]
    return dict(pin.split("==") for pin in PRODUCERS[producer].packages if "==" in pin)


def _short(body: Any) -> Any:
    """The request without what is of this machine, and without long texts."""
    if isinstance(body, list):
        return [_short(item) for item in cast("list[Any]", body) if not _left_out(item)]
    if isinstance(body, dict):
        return {key: _short(item) for key, item in cast("dict[str, Any]", body).items() if key != "events"}
    return body


def _left_out(item: Any) -> bool:
    if not isinstance(item, dict) or "key" not in item:
        return False
    pair = cast("dict[str, Any]", item)
    name: str = pair["key"]
    whole = any(word in name for word in ("usage", "Metadata", "parameters"))
    return name.startswith(_LOCAL) or (len(json.dumps(pair)) > _LONG and not whole)


if __name__ == "__main__":
    main()
