"""The gate: each request is let in as somebody who may do something, or refused."""

from __future__ import annotations

import hmac
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from genai_meter_exporter.access import tokens
from genai_meter_exporter.access.rates import Rates
from genai_meter_exporter.access.settings import Access
from genai_meter_exporter.access.tokens import Grant, Scope, TokenError
from genai_meter_exporter.config import ConfigError

logger: Final = logging.getLogger("genai_meter_exporter")

_LOOK_SECONDS: Final = 1.0
"""How often the file is looked at."""

_NOBODY: Final = "0" * 64


class Unauthenticated(Exception):
    """No token, or none that holds."""


class Forbidden(Exception):
    """The token does not allow this; the message says what is missing."""


class TooMany(Exception):
    """More requests than one may make."""

    def __init__(self, seconds: int) -> None:
        super().__init__("more requests than access.requests_per_second: send again later")
        self.seconds = seconds


class Closed(Exception):
    """The tokens cannot be read, so nobody is let in; it may pass."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request comes from, as far as it matters."""

    name: str
    """For the log."""
    scopes: frozenset[Scope]
    tenants: frozenset[str] | None = None
    """Only these tenants; None: all."""

    def may(self, scope: Scope) -> bool:
        """`admin` includes the others."""
        return scope in self.scopes or "admin" in self.scopes


ANYBODY: Final = Caller("anybody", frozenset(tokens.SCOPES))
"""Whoever asks, where no tokens are configured."""


class Keyring:
    """The tokens of a file, read again when it changes. Used by the event loop only."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._looked = -_LOOK_SECONDS
        self._seen: tuple[int, ...] = ()
        self._grants: Mapping[str, Grant] = {}
        self.error: str | None = None
        """Why the tokens cannot be read now."""
        self.look()

    def __len__(self) -> int:
        return len(self._grants)

    def look(self) -> None:
        """Read the file when it has changed. While it cannot be read, no token holds."""
        now = self._clock()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        try:
            seen = _stamp(self._path)
            if seen and seen == self._seen:
                return
            found = tokens.read(self._path)
        except TokenError as error:
            reason = str(error)
            if reason != self.error:
                logger.error("nobody is let in: %s", reason)
            self.error, self._seen, self._grants = reason, (), {}
            return
        self.error, self._seen = None, seen
        self._grants = {grant.id: grant for grant in found}
        logger.info("%d token(s) hold, of %s", len(found), self._path)

    def grants(self) -> list[Grant]:
        """All of them."""
        self.look()
        return list(self._grants.values())

    def grant(self, token: str) -> Grant | None:
        """What a token allows; None when it does not hold."""
        self.look()
        if self.error is not None:
            raise Closed("the tokens cannot be read: send again later")
        found = self._grants.get(tokens.id_of(token))
        # Compared also when there is no such id: the answer takes equally long.
        same = hmac.compare_digest(tokens.digest(token), found.sha256 if found else _NOBODY)
        if not same or found is None:
            return None
        if found.expires is not None and found.expires <= datetime.now(UTC):
            return None
        return found


class Gate:
    """Lets requests in."""

    def __init__(self, keyring: Keyring | None, rates: Rates) -> None:
        self.keyring = keyring
        self._rates = rates

    def exchange(self, keyring: Keyring | None, rates: Rates | None) -> None:
        """Let in by these from now on. Without rates, whoever has made too many requests still has."""
        self.keyring = keyring
        self._rates = rates or self._rates

    def admit(self, authorization: str | None, peer: str, scope: Scope | None) -> Caller:
        """The caller, who may do what `scope` names (None: anything).

        Raises `Unauthenticated`, `Forbidden`, `TooMany` or `Closed`.
        """
        if self.keyring is None:
            self._count(peer)
            return ANYBODY
        grant = self.keyring.grant(_bearer(authorization))
        if grant is None:
            self._count(peer)
            raise Unauthenticated(
                "a token that holds is needed: `Authorization: Bearer …` (`genai-meter token create`)"
            )
        self._count(grant.id)
        caller = Caller(
            f"{grant.name} ({grant.id})",
            frozenset(grant.scopes),
            None if grant.tenants is None else frozenset(grant.tenants),
        )
        if scope is not None and not caller.may(scope):
            raise Forbidden(f"the token does not have the scope {scope}")
        return caller

    def _count(self, whose: str) -> None:
        if seconds := self._rates.wait(whose):
            raise TooMany(seconds)


def keyring_of(access: Access, directory: Path) -> Keyring | None:
    """None without tokens. Raises `ConfigError` when they cannot be read: nobody could send."""
    if access.tokens is None:
        return None
    path = directory / access.tokens
    try:
        tokens.read(path)
    except TokenError as error:
        raise ConfigError(f"access.tokens: {error}") from None
    return Keyring(path)


def rates_of(access: Access) -> Rates:
    """As configured."""
    return Rates(access.requests_per_second, access.burst)


def _stamp(path: Path) -> tuple[int, ...]:
    """Changes with the file; empty when there is none."""
    try:
        state = os.stat(path)
    except OSError:
        return ()
    return state.st_mtime_ns, state.st_ino, state.st_size


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
