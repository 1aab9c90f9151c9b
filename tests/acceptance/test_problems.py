"""What is wrong is the first that an operator sees: on the page's `/status`, and as an exit code for a monitor."""

from __future__ import annotations

import signal
import time

from tests.acceptance.peers import grants, peer, refuses, says
from tests.acceptance.support import SECRET, command, configuration, running, until


def codes(sidecar) -> dict[str, str]:
    """The problems that there are now, with their severity."""
    return {problem["code"]: problem["severity"] for problem in sidecar.status()["problems"]}


def check(sidecar) -> int:
    """The exit code of `status --check`, by a configuration that only says where the admin listener is."""
    file = sidecar.file.with_name("check.yaml")
    file.write_text(f"admin: {{listen: '{sidecar.admin}'}}\n")
    return command("status", "--check", "--config", file).returncode


def test_whatever_is_wrong_is_a_problem_and_is_one_no_more_when_it_is_mended(tmp_path):
    """Refused credential, dead upstream, empty secret file, refused reload: all in /status while it is ready."""
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}-on-file\n")
    with peer(refuses()) as issuer, peer(says(200)) as upstream:
        good = configuration(tmp_path, issuer.url, {"api": {"upstream": upstream.url}})
        good["token_requests"] = {"min_interval": "0s"}
        good["credentials"]["filed"] = {"type": "static_token", "token_file": str(secret)}
        good["routes"]["dead"] = {"credential": "filed", "upstream": "http://127.0.0.1:1"}
        with running(tmp_path, good) as sidecar:
            begun = time.time()
            assert (codes(sidecar), check(sidecar)) == ({}, 0)
            assert sidecar.ask("/api/x").problem["code"] == "credential_rejected"
            assert sidecar.ask("/dead/x").problem["code"] == "upstream_unreachable"
            secret.write_text("")
            bad = good["credentials"] | {"cluster": good["credentials"]["cluster"] | {"client_secret": [SECRET]}}
            sidecar.write(good | {"drain_timeout": "soon", "credentials": bad})
            sidecar.signal(signal.SIGHUP)
            wrong = {
                "credential_refused": "critical",
                "upstream_unreachable": "critical",
                "secret_file_unusable": "warning",
                "configuration_refused": "warning",
            }
            until(lambda: codes(sidecar) == wrong, "all four are told")
            assert sidecar.operate("/readyz").status == 200
            assert check(sidecar) == 1
            told = {problem["code"]: problem for problem in sidecar.status()["problems"]}
            for key in ("drain_timeout", "credentials.cluster.client_secret"):
                assert key in told["configuration_refused"]["what"]
            assert "access_denied" in told["credential_refused"]["what"]
            assert "credentials.filed.token_file" in told["secret_file_unusable"]["what"]
            assert all(begun <= problem["since"] <= time.time() for problem in told.values())
            assert SECRET not in str(told)

            secret.write_text(f"{SECRET}-on-file\n")
            issuer.behaviour = grants()
            good["routes"]["dead"]["upstream"] = upstream.url
            sidecar.write(good)
            sidecar.signal(signal.SIGHUP)
            sidecar.logged("configuration reloaded")
            assert sidecar.ask("/api/x").status == sidecar.ask("/dead/x").status == 200
            until(lambda: codes(sidecar) == {}, "nothing is wrong any more")
            assert check(sidecar) == 0
