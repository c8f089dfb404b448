"""Reads whose answer is the end of a call that was made before: batches and background responses.

What a seam meters is a POST. A few other requests bring the usage of work that was ordered earlier,
perhaps by another process; they are found here, by one look at the path. Nothing is opened for them,
the guard is not asked, and whatever they tell is charged under an id derived from the provider's own:
however often, and by however many processes, a result is read, it is one call in the ledger.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Protocol

from genai_meter.clients.targets import target_of

_PATH: Final = re.compile(
    r"/(?:files/(?P<file>[^/?]+)/content"
    r"|messages/batches/(?P<results>[^/?]+)/results"
    r"|batches(?:/(?P<batch>[^/?]+))?"
    r"|responses/(?P<response>[^/?]+)(?P<cancel>/cancel)?)/?(?:\?|$)"
)


class Visit(Protocol):
    """One such request in the hands of the SDK."""

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for the SDK."""
        ...

    def returned(self, result: Any) -> None:
        """The SDK gave `result` to the caller."""
        ...


def visit(package: str, copy: Callable[[Any], Any], client: Any, options: Any, kwargs: dict[str, Any]) -> Visit | None:
    """What is done about a request that is no call by itself; None for nearly all."""
    found = _PATH.search("/" + options.url)
    if found is None:
        return None
    method = options.method.upper()
    if method not in ("GET", "POST"):
        return None
    if found["response"] is not None:
        if (method == "POST") is (found["cancel"] is None):
            return None
        from genai_meter.clients import background

        target = target_of(client, package, options.url)
        return background.Retrieval(target, copy(options), stream=bool(kwargs.get("stream")))
    from genai_meter.clients import batches

    file = found["file"] or found["results"]
    return batches.Download(target_of(client, package, options.url), file) if file else batches.Look()
