"""From the directory to the receiver: what counts as an acknowledgement, and what becomes of everything else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from genai_meter import environment, spool_files
from genai_meter.spool_files import SpoolError
from genai_meter.spool_shipping import Destination, destination
from genai_meter_exporter.cli import main
from spool_kit import (
    NOWHERE,
    Answer,
    Receiver,
    Request,
    an_event,
    make,
    on_disk,
    response_ids,
    spooling,
    wait_until,
    write_file,
)

HTML = Answer(200, b"<html>Log in</html>", {"content-type": "text/html"})
HEALTHY = Answer(200, b"", {"content-type": "text/plain"})


def ship(directory: Path, url: str, *options: str) -> int:
    """`genai-meter spool ship`."""
    return main(["spool", "ship", str(directory), "--endpoint", url, *options])


def numbers(records: list[dict[str, Any]]) -> list[int]:
    """Ids of the outcomes of `an_event`."""
    found = ({pair["key"]: pair["value"] for pair in record["attributes"]} for record in records)
    return [int(attributes["genai_meter.outcome.id"]["stringValue"]) for attributes in found]


# --- the file ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("tail", "damaged"),
    [
        pytest.param(b"", 0, id="whole"),
        pytest.param(b'deadbeef ["genai_meter.outcome",12', 0, id="torn"),
        pytest.param(b"dead", 0, id="torn-in-the-checksum"),
        pytest.param(b'deadbeef ["genai_meter.outcome"]\n', 1, id="wrong-checksum"),
        pytest.param(b"\0" * 4096 + b"\n", 1, id="zeros-after-a-power-cut"),
        pytest.param(b"\n\n\xff\xfe\n", 3, id="garbage"),
        pytest.param(spool_files.frame(b'["of another version"]'), 1, id="no-event"),
    ],
)
def test_nothing_before_a_damaged_line_is_lost(
    tmp_path: Path, tail: bytes, damaged: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write_file(tmp_path / "spool", [an_event(1), an_event(2)], tail=tail)
    with Receiver() as receiver:
        assert ship(tmp_path / "spool", receiver.url) == 0
        assert numbers(receiver.taken) == [1, 2]
    more = f", {damaged} damaged" if damaged else ""
    assert capsys.readouterr().out == f"2 events acknowledged{more}\n"
    assert list((tmp_path / "spool").iterdir()) == []


def test_every_cut_of_a_file_gives_the_lines_before_it(tmp_path: Path) -> None:
    path = write_file(tmp_path / "spool", [an_event(1), an_event(2)])
    whole = path.read_bytes()
    _head, *ends = [end for end, byte in enumerate(whole, 1) if byte == ord("\n")]
    with Receiver() as receiver:
        for cut in range(0, len(whole), 7):
            path.write_bytes(whole[:cut])
            before = len(receiver.taken)
            assert ship(tmp_path / "spool", receiver.url) == 0
            assert numbers(receiver.taken[before:]) == [1, 2][: sum(end <= cut for end in ends)]
            assert not path.exists()


def test_what_otlp_says_of_a_record(tmp_path: Path) -> None:
    values = {"t": "\N{SNOWMAN}", "i": 2**53 + 1, "f": 0.5, "n": float("nan"), "b": True, "l": ["a", 1], "none": None}
    trace = ["genai_meter.outcome", 5, 6, "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1]
    write_file(tmp_path / "spool", [[*trace, {**values, "half": "\ud83d"}]])
    with Receiver() as receiver:
        assert ship(tmp_path / "spool", receiver.url) == 0
    (request,) = receiver.requests
    assert request.path == "/v1/logs"
    assert request.headers["content-type"] == "application/json"
    (group,) = json.loads(request.body)["resourceLogs"]
    assert group["resource"] == {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    (scoped,) = group["scopeLogs"]
    assert scoped["scope"] == {"name": "genai_meter", "version": "0.1.0"}
    (record,) = scoped["logRecords"]
    attributes = {pair["key"]: pair["value"] for pair in record.pop("attributes")}
    assert record == {
        "timeUnixNano": "5",
        "observedTimeUnixNano": "6",
        "severityNumber": 9,
        "severityText": "INFO",
        "eventName": "genai_meter.outcome",
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "spanId": "b7ad6b7169203331",
        "flags": 1,
    }
    assert attributes == {
        "t": {"stringValue": "\N{SNOWMAN}"},
        "i": {"intValue": str(2**53 + 1)},
        "f": {"doubleValue": 0.5},
        "n": {"doubleValue": "NaN"},
        "b": {"boolValue": True},
        "l": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "1"}]}},
        "half": {"stringValue": "?"},
    }


# --- acknowledgements -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(Answer(503), "answers HTTP 503", id="unavailable"),
        pytest.param(Answer(429, headers={"retry-after": "9"}), "answers HTTP 429", id="too-many"),
        pytest.param(Answer(401), "answers HTTP 401", id="no-token"),
        pytest.param(Answer(404), "answers HTTP 404", id="wrong-path"),
        pytest.param(Answer(302, headers={"location": "/login"}), "answers HTTP 302", id="redirect"),
        pytest.param(HTML, "is no OTLP receiver: it answers 200 with text/html", id="log-in-page"),
        pytest.param(Answer(200, b"ok"), "is no OTLP receiver: its answer cannot be read", id="no-json"),
        pytest.param(HEALTHY, "is no OTLP receiver: it answers 200 with text/plain", id="health-check"),
        pytest.param(Answer(400), "is no OTLP receiver: HTTP 400 for an empty request", id="refuses-everything"),
        pytest.param(Answer(202, b""), "is no OTLP receiver: it answers 202", id="another-status"),
    ],
)
def test_nothing_else_is_an_acknowledgement(
    tmp_path: Path, answer: Answer, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_file(tmp_path / "spool", [an_event(1)])
    with Receiver(answer, *[answer] * (answer.status == 400)) as receiver:
        assert ship(tmp_path / "spool", receiver.url) == 1
        assert reason in capsys.readouterr().err
        assert len(on_disk(tmp_path / "spool")) == 1
        assert ship(tmp_path / "spool", receiver.url) == 0
    assert on_disk(tmp_path / "spool") == []


def test_nobody_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_file(tmp_path / "spool", [an_event(1)])
    assert ship(tmp_path / "spool", NOWHERE) == 1
    assert capsys.readouterr().err.endswith(
        "/v1/logs cannot be reached: [Errno 111] Connection refused; the rest stays\n"
    )
    assert len(on_disk(tmp_path / "spool")) == 1


@pytest.mark.parametrize(
    "answer", [Answer(200, b"", {}), Answer(200, b"\x0a\x00", {"content-type": "application/x-protobuf"})]
)
def test_acknowledgements_in_other_words(tmp_path: Path, answer: Answer) -> None:
    write_file(tmp_path / "spool", [an_event(1)])
    with Receiver(answer) as receiver:
        assert ship(tmp_path / "spool", receiver.url) == 0
    assert on_disk(tmp_path / "spool") == []


def test_partial_success_is_an_acknowledgement_and_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_file(tmp_path / "spool", [an_event(1), an_event(2)])
    told = {"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "no outcome"}}
    with Receiver(Answer(200, json.dumps(told).encode())) as receiver:
        assert ship(tmp_path / "spool", receiver.url) == 0
    assert capsys.readouterr().out == "2 events acknowledged, 1 rejected\n"
    assert "keeps 1 events of the spool apart: no outcome" in caplog.text


def test_an_event_that_the_receiver_cannot_read_does_not_hold_up_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def judge(request: Request) -> Answer:
        return Answer(400 if 7 in numbers(request.records) else 200)

    write_file(tmp_path / "spool", [an_event(number) for number in range(20)])
    with Receiver(judge=judge) as receiver:
        assert ship(tmp_path / "spool", receiver.url) == 0
        assert capsys.readouterr().out == "19 events acknowledged, 1 refused\n"
        assert sorted(numbers(receiver.taken)) == [number for number in range(20) if number != 7]
        (kept,) = on_disk(tmp_path / "spool", ".refused")
        assert kept == an_event(7)
        assert ship(tmp_path / "spool", receiver.url) == 0
        assert main(["spool", "status", str(tmp_path / "spool")]) == 0
        assert "refused               1 events in 1 files" in capsys.readouterr().out
        assert ship(tmp_path / "spool", receiver.url, "--refused") == 0
        assert on_disk(tmp_path / "spool", ".refused") == [an_event(7)]
    with Receiver() as receiver:
        assert ship(tmp_path / "spool", receiver.url, "--refused") == 0
        assert numbers(receiver.taken) == [7]
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_batch_that_is_too_large_is_sent_in_parts(tmp_path: Path) -> None:
    write_file(tmp_path / "spool", [an_event(number) for number in range(1200)])
    with Receiver(judge=lambda request: Answer(413 if len(request.records) > 300 else 200)) as receiver:
        assert ship(tmp_path / "spool", receiver.url) == 0
        assert numbers(receiver.taken) == list(range(1200))
        assert max(len(request.records) for request in receiver.requests if request.status == 200) == 256


def test_retry_after_is_respected(tmp_path: Path) -> None:
    answer = Answer(503, headers={"retry-after": "3"})
    with Receiver(answer) as receiver, spooling(tmp_path / "spool", receiver.url):
        make()
        receiver.wait_for(1)
        first, second = receiver.requests
        assert second.at - first.at > 2.9


# --- where to ---------------------------------------------------------------------------------------
def to(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Destination:
    """The destination that variables name."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    environment.reload()
    return destination(os.environ)


@pytest.mark.parametrize(
    ("variables", "url", "headers"),
    [
        ({}, "http://localhost:4328/v1/logs", {}),
        ({"GENAI_METER_SPOOL_ENDPOINT": "http://meter:4328/"}, "http://meter:4328/v1/logs", {}),
        (
            {"GENAI_METER_SPOOL_ENDPOINT": "https://meter/x/v1/logs", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=theirs"},
            "https://meter/x/v1/logs",
            {},
        ),
        (
            {"GENAI_METER_SPOOL_HEADERS": "authorization=Bearer%20a=b"},
            "http://localhost:4328/v1/logs",
            {"authorization": "Bearer a=b"},
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_HEADERS": "api-key=k%2C1,X-Other=2",
            },
            "http://collector:4318/v1/logs",
            {"api-key": "k,1", "x-other": "2"},
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://logs:4318/custom",
                "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "api-key=logs",
            },
            "http://logs:4318/custom",
            {"api-key": "logs"},
        ),
    ],
)
def test_where_to(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, headers: dict[str, str]
) -> None:
    found = to(monkeypatch, **variables)
    assert (found.url, dict(found.headers)) == (url, headers)


def test_grpc_needs_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpoolError) as caught:
        to(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4317")
    assert str(caught.value) == (
        "the spool ships by OTLP/HTTP, and OTEL_EXPORTER_OTLP_PROTOCOL is grpc: set GENAI_METER_SPOOL_ENDPOINT to the "
        "HTTP address of the exporter (http://<host>:4328)"
    )


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Any:
    """No settings of another test."""
    environment.reload()
    yield
    monkeypatch.undo()
    environment.reload()


@pytest.mark.parametrize("compression", ["gzip", "deflate", "none"])
def test_headers_and_compression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
    monkeypatch.setenv("GENAI_METER_SPOOL_HEADERS", "authorization=Bearer%20s3cret")
    environment.reload()
    assert "s3cret" not in repr(environment.settings())
    write_file(tmp_path / "spool", [an_event(1)])
    with Receiver() as receiver:
        assert ship(tmp_path / "spool", receiver.url) == 0
        (request,) = receiver.requests
    assert request.headers["authorization"] == "Bearer s3cret"
    assert request.headers.get("content-encoding", "none") == compression
    assert numbers(receiver.taken) == [1]


def test_tls_with_a_client_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificates, is not here")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=127.0.0.1"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, *made, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    write_file(tmp_path / "spool", [an_event(1)])
    with Receiver(tls=context) as receiver:
        assert ship(tmp_path / "spool", receiver.url) == 1
        assert "CERTIFICATE_VERIFY_FAILED" in capsys.readouterr().err
        for name, path in (("CERTIFICATE", certificate), ("CLIENT_CERTIFICATE", certificate), ("CLIENT_KEY", key)):
            monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", str(path))
        assert ship(tmp_path / "spool", receiver.url) == 0
        assert numbers(receiver.taken) == [1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tmp_path / "gone.pem"))
    assert ship(tmp_path / "spool", receiver.url) == 2
    assert "the certificates for https://127.0.0.1" in capsys.readouterr().err


# --- the command ------------------------------------------------------------------------------------
def test_the_file_of_a_living_process_is_left_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "spool"
    # Else it would look at what others have left.
    monkeypatch.setattr("genai_meter.spool._TICK", 3600)
    with spooling(place):
        make()
        left = write_file(place, [an_event(1)])
        with Receiver() as receiver:
            assert ship(place, receiver.url) == 0
            assert numbers(receiver.taken) == [1]
        told = "1 events acknowledged\n1 files are in the hands of living processes, which ship them themselves\n"
        assert capsys.readouterr().out == told
        assert not left.exists()
        assert main(["spool", "status", str(place)]) == 0
        printed = capsys.readouterr().out.splitlines()
        assert printed[:3] == [
            "of living processes   1 events in 1 files",
            "to be shipped         0 events in 0 files",
            "refused               0 events in 0 files",
        ]
        assert printed[4] == "oldest event          2026-11-22T09:00:01Z"
    with Receiver() as receiver:
        assert ship(place, receiver.url) == 0
        assert response_ids(receiver.taken) == ["chatcmpl-1"]


def test_a_directory_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ship(tmp_path / "no", NOWHERE) == 2
    assert capsys.readouterr().err == f"genai-meter spool: there is no directory {tmp_path / 'no'}\n"


def test_following_ships_for_applications_that_do_not_return(tmp_path: Path) -> None:
    place = tmp_path / "spool"
    write_file(place, [an_event(1)])
    program = "import sys; from genai_meter_exporter.cli import main; sys.exit(main())"
    with Receiver(Answer(503)) as receiver:
        arguments = ["spool", "ship", str(place), "--endpoint", receiver.url, "--follow"]
        follower = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)
        assert numbers(receiver.wait_for(1)) == [1]
        wait_until(lambda: on_disk(place) == [])
        follower.send_signal(signal.SIGTERM)
        printed, _ = follower.communicate(timeout=60)
    assert (follower.returncode, printed) == (0, "1 events acknowledged\n")
