"""Tokens, rates, TLS: who is let in, what is kept of a secret, and what the operator is warned of."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from access_kit import CREATED, Authority, bearer, get, make_token
from exporter_kit import Answer, Served, fetch, logs, usage_event
from genai_meter_exporter.access import tokens
from genai_meter_exporter.access.gate import ANYBODY, Closed, Forbidden, Gate, Keyring, TooMany, Unauthenticated
from genai_meter_exporter.access.rates import Rates
from genai_meter_exporter.access.tokens import TokenError
from genai_meter_exporter.cli import main
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


class Clock:
    """Time that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def keyring(path: Path) -> tuple[Keyring, Clock]:
    """Over a file, with a clock."""
    clock = Clock()
    return Keyring(path, clock), clock


# --- the file ----------------------------------------------------------------------------------------
def test_of_a_token_only_its_hash_is_kept_for_the_owners_eyes(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    grant, token = tokens.create(
        path, name="shop", scopes=["ingest"], tenants=["b", "a", "b"], created=CREATED, expires=None
    )
    text = path.read_text(encoding="utf-8")
    assert token.startswith(f"gmt_{grant.id}_")
    assert len(token) == 60
    assert token.split("_", 2)[2] not in text
    assert json.loads(text) == {
        "version": 1,
        "tokens": [
            {
                "id": grant.id,
                "name": "shop",
                "scopes": ["ingest"],
                "tenants": ["a", "b"],
                "created": "2026-11-22T09:00:00Z",
                "sha256": tokens.digest(token),
            }
        ],
    }
    assert path.stat().st_mode & 0o777 == 0o600
    assert tokens.read(path) == [grant]


def test_a_change_keeps_the_files_mode_and_the_other_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    make_token(path, "read")
    path.chmod(0o640)
    second = make_token(path, "ingest")
    assert path.stat().st_mode & 0o777 == 0o640
    tokens.revoke(path, tokens.id_of(second))
    assert [grant.scopes for grant in tokens.read(path)] == [["read"]]
    with pytest.raises(TokenError, match="has no token 000000000000"):
        tokens.revoke(path, "0" * 12)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no file of tokens: the file: Invalid JSON"),
        ('{"version": 2}', "is no file of tokens: version: Input should be 1"),
        ('{"tokens": [{"id": "x"}]}', "is no file of tokens: tokens.0.id: String should match pattern"),
        ('{"tokens": [], "secret": 1}', "is no file of tokens: secret: Extra inputs are not permitted"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TokenError) as caught:
        tokens.read(path)
    assert reason in str(caught.value)


# --- the gate ----------------------------------------------------------------------------------------
def test_a_token_holds_as_long_as_it_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    first = make_token(path, "ingest", tenants=["acme"], name="shop")
    ring, clock = keyring(path)
    gate = Gate(ring, Rates(None, 1))
    caller = gate.admit(f"Bearer {first}", "1.2.3.4", "ingest")
    assert (caller.name, caller.tenants) == (f"shop ({tokens.id_of(first)})", {"acme"})
    second = make_token(path, "read")
    with pytest.raises(Unauthenticated):
        gate.admit(f"Bearer {second}", "1.2.3.4", "read")
    clock.now += 1.01
    assert gate.admit(f"bearer  {second}", "1.2.3.4", "read").tenants is None
    with pytest.raises(Forbidden, match="does not have the scope ingest"):
        gate.admit(f"Bearer {second}", "1.2.3.4", "ingest")
    tokens.revoke(path, tokens.id_of(first))
    clock.now += 1.01
    with pytest.raises(Unauthenticated):
        gate.admit(f"Bearer {first}", "1.2.3.4", "ingest")


def test_what_is_nearly_a_token_is_none(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token = make_token(path, "admin")
    over = make_token(path, "admin", over=True)
    gate = Gate(keyring(path)[0], Rates(None, 1))
    assert gate.admit(f"Bearer {token}", "", "admin").may("ingest")
    wrong = [token[:-1], token + "x", token.swapcase(), f"{token} x", "", tokens.id_of(token), over, "é" * 60]
    for told in [*(f"Bearer {one}" for one in wrong), token, f"Basic {token}", None]:
        with pytest.raises(Unauthenticated):
            gate.admit(told, "", "admin")


def test_while_the_tokens_cannot_be_read_nobody_is_let_in_and_may_try_again(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token = make_token(path, "ingest")
    ring, clock = keyring(path)
    gate = Gate(ring, Rates(None, 1))
    path.rename(tmp_path / "away")
    clock.now += 1.01
    with pytest.raises(Closed):
        gate.admit(f"Bearer {token}", "", "ingest")
    (tmp_path / "away").rename(path)
    clock.now += 1.01
    assert gate.admit(f"Bearer {token}", "", "ingest").tenants is None


def test_without_a_file_anybody_may_do_all() -> None:
    assert Gate(None, Rates(None, 1)).admit(None, "1.2.3.4", "admin") is ANYBODY


def test_rates_are_per_token_and_fill_up_again(tmp_path: Path) -> None:
    clock = Clock()
    rates = Rates(0.5, 3, clock)
    assert [rates.wait("a") for _ in range(5)] == [0, 0, 0, 2, 2]
    assert rates.wait("b") == 0
    clock.now += 2
    assert [rates.wait("a") for _ in range(2)] == [0, 2]
    clock.now += 100
    assert [rates.wait("a") for _ in range(4)] == [0, 0, 0, 2]
    path = tmp_path / "tokens.json"
    token = make_token(path, "read")
    gate = Gate(Keyring(path), Rates(1, 1, clock))
    gate.admit(f"Bearer {token}", "1.2.3.4", "read")
    with pytest.raises(TooMany):
        gate.admit(f"Bearer {token}", "5.6.7.8", "read")


# --- served ------------------------------------------------------------------------------------------
def test_too_many_requests_are_told_when_to_come_again(tmp_path: Path) -> None:
    config = {"access": {"requests_per_second": 0.001, "burst": 2}}
    with Served(tmp_path / "data", config) as served:
        answers = [served.post("logs", b"") for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        told = int(answers[-1].headers["retry-after"])
        assert 900 < told <= 1000
        (details,) = Status.FromString(answers[-1].body).details
        retry = RetryInfo()
        assert details.Unpack(retry)
        assert retry.retry_delay.seconds == told
        problem = get(f"{served.status_url}/v1/health")
        assert (problem.status, 900 < int(problem.headers["retry-after"]) <= told) == (429, True)
        assert json.loads(problem.body) == {
            "type": "about:blank",
            "title": "Too Many Requests",
            "status": 429,
            "detail": "more requests than access.requests_per_second: send again later",
        }
        # Probes are not counted: whether the process lives is no question of who asks.
        assert get(f"{served.status_url}/readyz").status == 200


def test_secrets_are_in_no_log_and_in_no_metric(tmp_path: Path) -> None:
    file = tmp_path / "data" / "tokens.json"
    token, house = make_token(file, "ingest", tenants=["acme"], name="shop"), make_token(file, "read", name="prom")
    with Served(tmp_path / "data", {"access": {"tokens": "tokens.json"}}) as served:
        event = usage_event(tenant="bolt")
        body = logs([event]).SerializeToString()
        headers = {**bearer(token), "content-type": "application/x-protobuf"}
        assert fetch(f"{served.http}/v1/logs", body, headers).status == 200
        assert fetch(f"{served.http}/v1/logs?token={token}", b"\xff", headers).status == 400
        assert get(f"{served.status_url}/v1/usage?cursor={token}", house).status == 400
        assert get(f"{served.status_url}/v1/usage", token).status == 403
        shown = get(served.metrics_url, house).body + get(f"{served.status_url}/v1/health", house).body
    shown += (served.data / "stderr.log").read_bytes() + served.ledger.read_bytes()
    for secret in (token, house):
        assert secret.split("_", 2)[2].encode() not in shown
        assert tokens.digest(secret).encode() not in shown


def test_tokens_change_while_it_runs(tmp_path: Path) -> None:
    file = tmp_path / "data" / "tokens.json"
    first = make_token(file, "read")
    with Served(tmp_path / "data", {"access": {"tokens": "tokens.json"}}) as served:
        url = f"{served.status_url}/v1/health"
        assert get(url, first).status == 200
        second = make_token(file, "read")
        tokens.revoke(file, tokens.id_of(first))
        wait_for(lambda: get(url, second).status == 200)
        assert get(url, first).status == 401
        file.write_text("{", encoding="utf-8")
        wait_for(lambda: get(url, second).status == 503)
        ready = get(f"{served.status_url}/readyz")
        assert (ready.status, ready.body) == (503, b"the tokens cannot be read\n")
        assert fetch(f"{served.http}/v1/logs", b"", bearer(second)).headers["retry-after"] == "5"


def wait_for(condition: Any) -> None:
    """Until it holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_serve_does_not_start_without_its_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, reason in (
        ("access: {tokens: nothing.json}\n", "nothing.json cannot be read: No such file or directory"),
        ("tls: {certificate: a.pem}\n", "tls.certificate and tls.key belong together; one is missing"),
        ("tls: {client_ca: a.pem}\n", "tls.client_ca needs tls.certificate and tls.key"),
        ("tls: {certificate: a.pem, key: b.pem}\n", "No such file or directory"),
    ):
        file = tmp_path / "config.yaml"
        file.write_text(text, encoding="utf-8")
        assert main(["serve", "--config", str(file), "--data-dir", str(tmp_path)]) == 2
        assert reason in capsys.readouterr().err


# --- TLS ---------------------------------------------------------------------------------------------
def trusting(authority: Authority, mine: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """A client's context."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if mine:
        context.load_cert_chain(*mine)
    return context


def fetch_tls(url: str, context: ssl.SSLContext, body: bytes | None = None) -> Answer:
    """Over TLS."""
    request = urllib.request.Request(url, body, {"content-type": "application/x-protobuf"})
    with urllib.request.urlopen(request, timeout=60, context=context) as response:
        return Answer(response.status, response.read(), dict(response.headers.items()))


def export_tls(served: Served, authority: Authority, mine: tuple[Path, Path] | None = None) -> bytes:
    """One OTLP/gRPC export over TLS."""
    untyped: Any = grpc
    credentials = untyped.ssl_channel_credentials(
        authority.certificate.read_bytes(),
        mine[1].read_bytes() if mine else None,
        mine[0].read_bytes() if mine else None,
    )
    with untyped.secure_channel(served.grpc, credentials) as channel:
        call = channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")
        return call(logs([usage_event()]).SerializeToString(), timeout=60)


@needs_openssl
def test_all_listeners_speak_tls_and_want_client_certificates(tmp_path: Path) -> None:
    data = tmp_path / "data"
    authority, stranger = Authority(data), Authority(tmp_path / "stranger", "stranger")
    certificate, key = authority.issue("server")
    client, other = authority.issue("client"), stranger.issue("client")
    config = {"tls": {"certificate": certificate.name, "key": key.name, "client_ca": authority.certificate.name}}
    with Served(data, config) as served:
        assert served.http.startswith("https://")
        context = trusting(authority, client)
        assert fetch_tls(f"{served.http}/v1/logs", context, b"").status == 200
        assert fetch_tls(f"{served.status_url}/readyz", context).body == b"ready\n"
        assert export_tls(served, authority, client) == b""
        for mine in (None, other):
            for url in (f"{served.http}/v1/logs", served.metrics_url):
                with pytest.raises((ssl.SSLError, urllib.error.URLError, ConnectionError)):
                    fetch_tls(url, trusting(authority, mine), b"")
            with pytest.raises(grpc.RpcError):
                export_tls(served, authority, mine)
        plain = served.http.removeprefix("https://")
        with socket.create_connection(tuple_of(plain)) as connection:  # pyright: ignore[reportArgumentType]
            connection.sendall(b"GET /v1/logs HTTP/1.1\r\nhost: x\r\n\r\n")
            assert not connection.recv(100).startswith(b"HTTP")


def tuple_of(address: str) -> tuple[str, int]:
    """Host and port."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def serial(served: Served, authority: Authority) -> object:
    """Of the certificate that a listener shows."""
    with (
        socket.create_connection(tuple_of(served.http.removeprefix("https://"))) as plain,
        trusting(authority).wrap_socket(plain, server_hostname="localhost") as encrypted,
    ):
        told = encrypted.getpeercert()
        return told and told["serialNumber"]


@needs_openssl
def test_new_certificates_are_used_without_a_restart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    authority = Authority(data)
    certificate, key = authority.issue("server")
    with Served(data, {"tls": {"certificate": certificate.name, "key": key.name}}) as served:
        first = serial(served, authority)
        key.write_text("nothing", encoding="utf-8")
        wait_for(lambda: b"the certificates stay as they were" in (data / "stderr.log").read_bytes())
        assert serial(served, authority) == first
        authority.issue("server")
        wait_for(lambda: serial(served, authority) != first)
        assert export_tls(served, authority) == b""


@needs_openssl
def test_another_authority_of_clients_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    data = tmp_path / "data"
    authority, next_one = Authority(data), Authority(tmp_path / "next", "next")
    certificate, key = authority.issue("server")
    client, next_client = authority.issue("client"), next_one.issue("client")
    trusted = data / "clients.pem"
    trusted.write_bytes(authority.certificate.read_bytes())
    config = {"tls": {"certificate": certificate.name, "key": key.name, "client_ca": trusted.name}}
    with Served(data, config) as served:
        url = f"{served.http}/v1/logs"
        assert fetch_tls(url, trusting(authority, client), b"").status == 200
        trusted.write_bytes(next_one.certificate.read_bytes())
        wait_for(lambda: b"the certificates were read again" in (data / "stderr.log").read_bytes())
        assert fetch_tls(url, trusting(authority, next_client), b"").status == 200
        with pytest.raises((ssl.SSLError, urllib.error.URLError, ConnectionError)):
            fetch_tls(url, trusting(authority, client), b"")


# --- commands ----------------------------------------------------------------------------------------
def test_tokens_are_made_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "genai-meter.yaml"
    config.write_text("access: {tokens: tokens.json}\n", encoding="utf-8")
    more = ["--config", str(config)]
    assert main(["token", "create", *more, "--name", "[/b]", "--scope", "read", "--scope", "ingest"]) == 0
    token = capsys.readouterr().out.strip()
    began = datetime.now(UTC)
    create = ["token", "create", *more, "--name", "shop", "--scope", "ingest", "--tenant", "acme", "--expires", "90d"]
    assert main(create) == 0
    told = capsys.readouterr()
    assert "it is shown this once" in told.err
    identifier = tokens.id_of(told.out.strip())
    assert main(["token", "list", *more]) == 0
    listed = capsys.readouterr().out
    assert token not in listed
    assert "[/b]" in listed
    shown = next(line.split() for line in listed.splitlines() if "shop" in line)
    assert shown[:4] == [identifier, "shop", "ingest", "acme"]
    # At midnight it may be either day.
    assert any(f"{at + timedelta(days=90):%Y-%m-%d}" in listed for at in (began, datetime.now(UTC)))
    assert main(["token", "revoke", *more, identifier]) == 0
    assert capsys.readouterr().out == f"revoked: shop ({identifier})\n"
    assert [grant.id for grant in tokens.read(tmp_path / "tokens.json")] == [tokens.id_of(token)]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["create", "--name", "x", "--scope", "admin", "--tenant", "acme"], "admin concerns all tenants"),
        (["revoke", "000000000000"], "tokens.json cannot be read: No such file or directory"),
        (["list"], "tokens.json cannot be read"),
        (["create", "--name", "", "--scope", "read"], "the token's name: String should have at least 1 character"),
        (["create", "--name", "x" * 101, "--scope", "read"], "the token's name: String should have at most 100"),
        (["create", "--name", "x", "--scope", "read", "--tenant", ""], "the token's tenants: String should have"),
    ],
)
def test_mistakes_of_the_token_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    action, *rest = arguments
    assert main(["token", action, "--file", str(tmp_path / "tokens.json"), *rest]) == 2
    assert reason in capsys.readouterr().err


def check(tmp_path: Path, capsys: pytest.CaptureFixture[str], config: dict[str, Any]) -> list[str]:
    """What `config check` warns of."""
    file = tmp_path / "genai-meter.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    code = main(["config", "check", "--strict", str(file)])
    told = capsys.readouterr()
    warned = [line.removeprefix(f"{file}: warning: ") for line in told.err.splitlines()]
    assert code == (1 if warned else 0)
    assert main(["config", "check", str(file)]) == 0
    capsys.readouterr()
    return warned


def test_what_is_open_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.8.9.1"):
        assert check(tmp_path, capsys, {"listen": {"host": host}}) == []
    for host in ("0.0.0.0", "::", "10.0.0.1", "meter.example"):
        assert check(tmp_path, capsys, {"listen": {"host": host}}) == [
            f"listen.host {host} is open to the network, and anybody may send and read: set access.tokens",
            f"listen.host {host} is open to the network without TLS: set tls.certificate and tls.key",
        ]
    assert check(tmp_path, capsys, {"store": {"url": "postgresql://me:secret@db/x"}}) == [
        "store.url has a password in it: give it by PGPASSWORD or a password file"
    ]


@needs_openssl
def test_files_that_others_can_read_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certificate, key = Authority(tmp_path).issue("server")
    file = tmp_path / "tokens.json"
    make_token(file, "read")
    config = {
        "listen": {"host": "0.0.0.0"},
        "tls": {"certificate": certificate.name, "key": key.name},
        "access": {"tokens": file.name},
    }
    assert check(tmp_path, capsys, config) == []
    key.chmod(0o640)
    file.chmod(0o666)
    assert check(tmp_path, capsys, config) == [
        f"tls.key: {key} has the mode 0640: others than its owner can read it; chmod 600 {key}",
        f"access.tokens: {file} has the mode 0666: everybody can read it; chmod 600 {file}",
        f"access.tokens: {file} has the mode 0666: others than its owner can write it; chmod 600 {file}",
    ]
    file.chmod(0o600)
    file.write_text('{"tokens": []}', encoding="utf-8")
    key.write_text("nothing", encoding="utf-8")
    key.chmod(0o600)
    (about_key, about_tokens) = check(tmp_path, capsys, config)
    assert str(key) in about_key
    assert about_tokens == f"access.tokens: {file} has no token: nobody can send or read (`genai-meter token create`)"


def test_an_overlay_that_cannot_be_used_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (warning,) = check(tmp_path, capsys, {"prices": {"overlay": "none.json"}})
    assert warning.startswith(f"prices.overlay: the price overlay {tmp_path / 'none.json'} cannot be used: ")
