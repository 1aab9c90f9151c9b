import asyncio
import json
import re
import socket

import pytest
from structlog.testing import capture_logs

from sidecar.admin.readiness import Readiness
from sidecar.config.settings import TcpAddress, UnixAddress
from tests.admin.support import ask, connect, serving, status

HOST = "Host: localhost"


async def test_alive_is_200_even_before_ready():
    """A liveness probe must not kill a sidecar that is starting or draining."""
    async with serving(readiness=Readiness("listeners bound")) as running:
        assert (await ask(running, f"GET /livez HTTP/1.1\n{HOST}"))[0] == 200


async def test_readiness_tells_why_not():
    """503 with the reason until all is done, 200 then, 503 from the drain on."""
    readiness = Readiness("configuration valid", "listeners bound")
    steps = (
        lambda: None,
        lambda: readiness.done("configuration valid"),
        lambda: readiness.done("listeners bound"),
        readiness.drain,
    )
    said = []
    async with serving(readiness=readiness) as running:
        for step in steps:
            step()
            code, _, body = await ask(running, f"GET /readyz HTTP/1.1\n{HOST}")
            said.append((code, body.decode()))
    assert said == [
        (503, "waiting for: configuration valid, listeners bound\n"),
        (503, "waiting for: listeners bound\n"),
        (200, "ok\n"),
        (503, "draining\n"),
    ]


async def test_metrics_are_served_in_both_forms():
    """OpenMetrics for who asks for it, text for the rest."""
    async with serving() as running:
        _, plain, body = await ask(running, f"GET /metrics HTTP/1.1\n{HOST}")
        _, structured, _ = await ask(running, f"GET /metrics HTTP/1.1\n{HOST}\nAccept: application/openmetrics-text")
    assert plain["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert structured["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert b"camunda_sidecar_build_info" in body


async def test_status_is_json():
    """`/status` says what the composition root knows, asked anew each time."""
    uptimes = iter((1.0, 2.0))
    async with serving(status=lambda: status(uptime=next(uptimes))) as running:
        answers = [json.loads((await ask(running, f"GET /status HTTP/1.1\n{HOST}"))[2]) for _ in range(2)]
    assert [answer["uptime"] for answer in answers] == [1.0, 2.0]
    assert answers[0]["tokens"][0]["audience"] == "operate.camunda.io"


async def test_the_page_runs_only_its_own_script():
    """The policy names the hashes of the page's own style and script, and nothing comes from elsewhere."""
    async with serving() as running:
        code, fields, body = await ask(running, f"GET / HTTP/1.1\n{HOST}")
    policy = fields["content-security-policy"]
    assert code == 200
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(rb"""(src|href)=["']?(https?:)?//""", body)


@pytest.mark.parametrize(
    ("head", "code", "error"),
    [
        ("GET /status HTTP/1.1\nHost: evil.example", 421, "unknown_host"),
        (f"GET /nothing HTTP/1.1\n{HOST}", 404, "no_route"),
        (f"POST /status HTTP/1.1\n{HOST}\nContent-Length: 0", 405, "method_not_allowed"),
        (f"DELETE / HTTP/1.1\n{HOST}", 405, "method_not_allowed"),
        (f"GET http://evil.example/status HTTP/1.1\n{HOST}", 400, "bad_request"),
    ],
)
async def test_refusals_are_problem_documents(head, code, error):
    """Each refusal has its code, in the body and in `Sidecar-Error`."""
    async with serving() as running:
        got, fields, body = await ask(running, head)
    assert (got, fields["content-type"], fields["sidecar-error"]) == (code, "application/problem+json", error)
    assert (json.loads(body)["status"], json.loads(body)["code"]) == (code, error)
    assert fields.get("allow") == ("GET, HEAD" if code == 405 else None)


async def test_a_head_has_no_body():
    """HEAD is GET without the body (RFC 9110, 9.3.2)."""
    async with serving() as running:
        code, fields, body = await ask(running, f"HEAD /livez HTTP/1.1\n{HOST}")
    assert (code, fields["content-length"], body) == (200, "3", b"")


async def test_another_host_gets_no_status():
    """A peer by a non-loopback address of this machine is refused all but metrics and probes."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing: only asks the routing table
            own = probe.getsockname()[0]
    except OSError:
        pytest.skip("this machine has no other address than loopback")
    async with serving(TcpAddress("0.0.0.0", 0)) as running:
        remote = type("", (), {"address": TcpAddress(own, running.address.port)})
        answers = {
            path: (await ask(remote, f"GET {path} HTTP/1.1\nHost: any.example"))[0]
            for path in ("/metrics", "/livez", "/readyz", "/status", "/")
        }
    assert answers == {"/metrics": 200, "/livez": 200, "/readyz": 200, "/status": 403, "/": 403}


async def test_it_answers_on_a_unix_socket(tmp_path):
    """There is no peer's address: its permissions decide, and everything is told."""
    async with serving(UnixAddress(tmp_path / "admin.sock")) as running:
        assert (await ask(running, f"GET /status HTTP/1.1\n{HOST}"))[0] == 200


async def test_idle_connections_keep_no_probe_out():
    """However many connections a peer holds open, the next one is answered: the oldest makes room."""
    async with serving(connections=4) as running:
        held = [await connect(running) for _ in range(12)]
        assert (await ask(running, f"GET /livez HTTP/1.1\n{HOST}"))[0] == 200
        ended = [reader for reader, _ in held[:8]]
        assert [await asyncio.wait_for(drained(reader), 5) for reader in ended] == [b""] * 8
        for _, writer in held:
            writer.close()


async def drained(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def test_closing_twice_does_no_harm():
    """A shutdown may be asked for more than once."""
    async with serving() as running:
        await running.close()


async def test_a_failing_status_is_a_500_and_no_traceback():
    """A bug in what is told must not tell more than it should."""

    def broken():
        raise RuntimeError("hunter2")

    async with serving(status=broken) as running:
        code, _, body = await ask(running, f"GET /status HTTP/1.1\n{HOST}")
    assert code == 500
    assert b"hunter2" not in body


async def test_what_is_no_request_is_one_line_and_no_traceback():
    """An HTTP/2 preface or a scanner's bytes: a problem document, and nothing that a client could fill the log with."""
    with capture_logs() as logs:
        async with serving() as running:
            code, headers, body = await ask(running, "PRI * HTTP/2.0\n\nSM")
    assert (code, json.loads(body)["code"]) == (400, "bad_request")
    assert headers["sidecar-error"] == "bad_request"
    assert [line["event"] for line in logs if line["log_level"] != "debug"] == ["request refused"]
