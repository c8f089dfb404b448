"""Call ids and keyed fingerprints."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator

import pytest
from genai_meter import environment, identity
from hypothesis import given
from hypothesis import strategies as st

KEY = "a-shared-secret-of-length"


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()
    environment.reload()


def test_a_call_id_is_a_uuid_of_version_7_that_holds_the_time() -> None:
    before = time.time_ns() // 1_000_000
    made = identity.new_call_id()
    after = time.time_ns() // 1_000_000
    as_uuid = uuid.UUID(bytes=made)
    assert (as_uuid.version, as_uuid.variant) == (7, uuid.RFC_4122)
    assert before <= int.from_bytes(made[:6], "big") <= after + 1
    assert identity.text(made) == str(as_uuid)


def test_ids_ascend_even_when_the_clock_stands_still_or_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    mint = identity.Mint()
    instants = iter([1_700_000_000_000_000_000] * 5000 + [1_600_000_000_000_000_000] * 5000)
    monkeypatch.setattr(identity.time, "time_ns", lambda: next(instants))
    ids = [mint.new() for _ in range(10_000)]
    assert ids == sorted(set(ids))


def test_threads_never_get_the_same_id_and_each_sees_its_own_ascend() -> None:
    made: list[list[bytes]] = [[] for _ in range(8)]

    def work(mine: list[bytes]) -> None:
        mine.extend(identity.new_call_id() for _ in range(5000))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(mine == sorted(mine) for mine in made)
    assert len({call_id for mine in made for call_id in mine}) == 40_000


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_ids_of_its_own() -> None:
    identity.new_call_id()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write_end, b"".join(identity.new_call_id() for _ in range(1000)))
        os._exit(0)
    os.close(write_end)
    mine = {identity.new_call_id() for _ in range(1000)}
    with os.fdopen(read_end, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    theirs = {data[at : at + 16] for at in range(0, len(data), 16)}
    assert len(theirs) == 1000
    assert not mine & theirs


@given(st.binary(min_size=16, max_size=16))
def test_the_text_of_an_id_leads_back_to_it(call_id: bytes) -> None:
    assert uuid.UUID(identity.text(call_id)).bytes == call_id


# --- fingerprints -----------------------------------------------------------------------------------
def test_without_a_key_there_is_no_fingerprint(configured: pytest.MonkeyPatch) -> None:
    configured.delenv("GENAI_METER_HASH_KEY", raising=False)
    environment.reload()
    assert identity.fingerprint("sk-1") is None
    assert identity.fingerprints("sk-1") == ()


def test_a_fingerprint_is_the_hmac_under_the_first_key(configured: pytest.MonkeyPatch) -> None:
    configured.setenv("GENAI_METER_HASH_KEY", f"k2:{KEY},k1:an-older-shared-secret")
    environment.reload()
    assert identity.fingerprint("sk-1") == "k2:" + _hmac(KEY, "sk-1")
    assert identity.fingerprints("sk-1") == (
        "k2:" + _hmac(KEY, "sk-1"),
        "k1:" + _hmac("an-older-shared-secret", "sk-1"),
    )


def _hmac(secret: str, message: str) -> str:
    """RFC 2104, written out."""
    import hashlib

    block = secret.encode().ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + message.encode()).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).hexdigest()[:32]


def test_users_are_hashed_when_asked_and_never_twice(configured: pytest.MonkeyPatch) -> None:
    configured.setenv("GENAI_METER_HASH_KEY", f"k:{KEY}")
    environment.reload()
    assert identity.user("alice") == "alice"
    configured.setenv("GENAI_METER_HASH_USER", "true")
    environment.reload()
    once = "k:" + _hmac(KEY, "alice")
    assert identity.user("alice") == once
    assert identity.user(once) == once
    forged = "other:" + "0" * 32
    assert identity.user(forged) == "k:" + _hmac(KEY, forged)


def test_users_are_dropped_when_hashing_is_asked_without_a_key(configured: pytest.MonkeyPatch) -> None:
    configured.delenv("GENAI_METER_HASH_KEY", raising=False)
    configured.setenv("GENAI_METER_HASH_USER", "true")
    environment.reload()
    assert identity.user("alice") is None


def test_requests_are_hashed_only_when_asked(configured: pytest.MonkeyPatch) -> None:
    body = {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}],
    }
    assert identity.request_hashes(body) == {}
    configured.setenv("GENAI_METER_HASH_KEY", f"k:{KEY}")
    configured.setenv("GENAI_METER_REQUEST_HASH", "true")
    environment.reload()
    canonical = (
        '{"messages":[{"content":"be brief","role":"system"},{"content":"hello","role":"user"}],"model":"gpt-4o"}'
    )
    assert identity.request_hashes(body) == {
        "request_hash": "k:" + _hmac(KEY, canonical),
        "system_hash": "k:" + _hmac(KEY, '["be brief"]'),
    }
    assert identity.request_hashes({**body, "messages": body["messages"][1:]}).keys() == {"request_hash"}
    assert identity.request_hashes({"system": "be brief"})["system_hash"] == "k:" + _hmac(KEY, '["be brief"]')
