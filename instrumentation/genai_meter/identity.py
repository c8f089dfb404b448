"""Ids of calls (UUIDv7) and keyed fingerprints of what must not be told in the clear."""

from __future__ import annotations

import json
import os
import random
import re
import struct
import time
from binascii import hexlify
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from genai_meter import environment
from genai_meter.dialects.base import read

if TYPE_CHECKING:
    from genai_meter.environment import HashKey

_halves: Final = struct.Struct(">QQ").pack
_groups: Final = struct.Struct("8s4s4s4s12s").unpack
_FINGERPRINT: Final = re.compile(r"[A-Za-z0-9_-]{1,16}:[0-9a-f]{32}")
_CACHED: Final = 256
_SYSTEM_ROLES: Final = ("system", "developer")


class Mint:
    """Makes UUIDv7 (RFC 9562) that strictly ascend within a thread.

    The twelve bits behind the milliseconds carry their fraction (method 3): ids of several threads and
    processes sort by time to a quarter of a microsecond, as far as their clocks agree. There is no lock: what two
    threads might do at once is to take the same instant, and the other 62 bits are random.
    """

    __slots__ = ("_random", "last")

    def __init__(self) -> None:
        self._random = random.Random(os.urandom(16)).getrandbits
        self.last = 0

    def new(self) -> bytes:
        """16 bytes."""
        # Milliseconds in 48 bits, their fraction in 12.
        instant = (time.time_ns() << 12) // 1_000_000
        if instant <= self.last:
            instant = self.last + 1
        self.last = instant
        return _halves((instant >> 12) << 16 | 0x7000 | (instant & 0xFFF), 0b10 << 62 | self._random(62))


_mint = Mint()


def new_call_id() -> bytes:
    """A new, time-ordered 128-bit id."""
    return _mint.new()


def latest() -> int:
    """Another number after every new id."""
    return _mint.last


def derived_call_id(time_ns: int, *parts: str) -> bytes:
    """The id of a call that several readers may see: equal for equal time and parts, in any process.

    In the layout of a UUIDv7, so that it sorts by time among the minted ones.
    """
    from hashlib import sha256  # not before it is needed: OpenSSL costs milliseconds of start-up

    digest = int.from_bytes(sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()[:10], "big")
    millis = time_ns // 1_000_000 & 0xFFFF_FFFF_FFFF
    fraction, tail = digest >> 62 & 0xFFF, digest & (1 << 62) - 1
    return (millis << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | tail).to_bytes(16, "big")


def text(call_id: bytes) -> str:
    """A call id in its usual form, `0190c1f2-….`"""
    return b"-".join(_groups(hexlify(call_id))).decode("ascii")


def _after_fork() -> None:
    global _mint
    _mint = Mint()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# --- fingerprints -----------------------------------------------------------------------------------
_fingerprints: dict[tuple[HashKey, str], str] = {}


def _digest(key: HashKey, message: str) -> str:
    import hmac  # not before a key is configured: OpenSSL costs milliseconds of start-up

    return f"{key.key_id}:{hmac.digest(key.secret, message.encode('utf-8', 'surrogatepass'), 'sha256').hex()[:32]}"


def _sign(key: HashKey, message: str) -> str:
    known = _fingerprints.get((key, message))
    if known is None:
        if len(_fingerprints) >= _CACHED:
            _fingerprints.clear()
        known = _fingerprints[key, message] = _digest(key, message)
    return known


def fingerprint(secret: str) -> str | None:
    """Keyed fingerprint `<key id>:<32 hex digits>` under the first configured key; None without one."""
    keys = environment.settings().hash_keys
    return _sign(keys[0], secret) if keys else None


def fingerprints(secret: str) -> tuple[str, ...]:
    """The fingerprint under each configured key, the signing one first: what it was called before a rotation."""
    return tuple(_sign(key, secret) for key in environment.settings().hash_keys)


def user(value: str) -> str | None:
    """The user id as it may leave the process: itself, or its fingerprint when the settings say so."""
    settings = environment.settings()
    if not settings.hash_user:
        return value
    if _FINGERPRINT.fullmatch(value) and any(value.startswith(key.key_id + ":") for key in settings.hash_keys):
        return value  # hashed by the process it was received from
    return fingerprint(value)


def request_hashes(body: Mapping[str, Any]) -> dict[str, str]:
    """Keyed hashes of a request and its system prompt, by field of the schema; empty unless configured."""
    settings = environment.settings()
    if not (settings.request_hash and settings.hash_keys):
        return {}
    key = settings.hash_keys[0]
    hashes = {"request_hash": _digest(key, _canonical(body))}
    system = _system_prompt(body)
    if system:
        hashes["system_hash"] = _digest(key, _canonical(system))
    return hashes


def _system_prompt(body: Mapping[str, Any]) -> list[Any]:
    parts = [body[name] for name in ("system", "instructions") if body.get(name)]
    for name in ("messages", "input"):
        messages = body.get(name)
        if isinstance(messages, list):
            parts.extend(read(message, "content") for message in messages if read(message, "role") in _SYSTEM_ROLES)  # pyright: ignore[reportUnknownVariableType]
    return parts


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_size_only)


def _size_only(value: object) -> str:
    """Files, images and objects of the client library enter a hash by their type alone."""
    return type(value).__qualname__
