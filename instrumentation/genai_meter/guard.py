"""The decision before the call. Policies do not exist yet: every call is allowed.

The seam asks `decide` (or `decide_async`) when everything a policy could need is known and nothing
has left the process. A decision other than `allow` is applied by the dialect's write side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from genai_meter.call import Prepared

Action: TypeAlias = Literal["allow", "degrade", "reroute", "queue", "block"]


class Blocked(Exception):
    """Raised to the caller instead of sending the request, and only when a policy says so."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the guard made of a call that is about to leave."""

    action: Action = "allow"
    """What happens to the call."""

    rule: str | None = None
    """Name of the policy rule that decided."""

    policy_version: str | None = None
    """Version of the policy document the rule came from."""

    change: Mapping[str, object] | None = None
    """For degrade and reroute: arguments for the dialect's `apply` (`model=`, `max_tokens=`)."""


ALLOW: Final = Decision()


def decide(_prepared: Prepared) -> Decision:
    """Decide a synchronous call. May block the thread (queue) or raise `Blocked`."""
    return ALLOW


async def decide_async(_prepared: Prepared) -> Decision:
    """Decide an asynchronous call. May await (queue) or raise `Blocked`."""
    return ALLOW
