"""What the chart renders for mode `cluster`, run: two replicas on one Redis, files mounted as the kubelet does it."""

import base64
import http.client
import ssl
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
import yaml

from tests.acceptance.peers import standin
from tests.acceptance.support import Sidecar, ending, spawn, until
from tests.deploy.charts import merged, render, values
from tests.deploy.test_chart import configuration
from tests.tokens.stores.support import redis_server

CA = trustme.CA()
SERVER = CA.issue_cert("localhost")
ANYWHERE = {
    "listen": "127.0.0.1:0",
    "admin": {"listen": "127.0.0.1:0"},
    "guard": {"hosts": ["localhost"]},
    "drain_delay": "0s",
}


def mount(folder: Path, files: dict[str, str]) -> None:
    """As the kubelet does it: a new directory, and a link that changes to it in one step."""
    folder.mkdir(exist_ok=True)
    made = folder / f"..{len(list(folder.iterdir()))}"
    made.mkdir()
    for name, text in files.items():
        (made / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..new").symlink_to(made.name)
    (folder / "..new").rename(folder / "..data")


def ask(sidecar: Sidecar, path: str, secret: str | None) -> int:
    """The status of a request as client `orders`, over TLS."""
    port = int(sidecar.address.rpartition(":")[2])
    client = http.client.HTTPSConnection(
        "localhost", port, context=ssl.create_default_context(cadata=CA_PEM), timeout=30
    )
    shown = {"Authorization": "Basic " + base64.b64encode(f"orders:{secret}".encode()).decode()} if secret else {}
    try:
        client.request("GET", path, headers=shown)
        return client.getresponse().status
    finally:
        client.close()


CA_PEM = CA.cert_pem.bytes().decode()


class Cluster:
    """Camunda, Redis, the mounted folders and two replicas."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.camunda = stack.enter_context(standin())
        self.folder = folder
        port = stack.enter_context(redis_server(folder))
        client = self.camunda.cluster_client
        chain = b"".join(blob.bytes() for blob in SERVER.cert_chain_pems).decode()
        self.secrets = {
            "camunda": {"client-secret": client.secret},
            "clients": {"orders": "first", "reports": "other"},
            "tls": {"tls.crt": chain, "tls.key": SERVER.private_key_pem.bytes().decode()},
            "valkey": {"url": f"redis://127.0.0.1:{port}/0"},
        }
        for name, files in self.secrets.items():
            mount(folder / name, files)
        self.configure({})
        command = ("run", "--config", str(folder / "etc/config.yaml"))
        environ = {"ZEEBE_CLIENT_ID": client.client_id}
        started = [stack.enter_context(ending(spawn(*command, env=environ))) for _ in range(2)]
        self.replicas = [sidecar.started() for sidecar in started]

    def configure(self, more: dict) -> None:
        """What `helm upgrade` and the kubelet do with other values."""
        here = {"credentials": {"cluster": {"token_url": self.camunda.token_url}}}
        routes = {name: {"upstream": self.camunda.upstream(name)} for name in ("operate", "optimize", "zeebe")}
        given = merged(values("cluster"), {"config": merged({**ANYWHERE, **here, "routes": routes}, more)})
        text = configuration(render(given))["data"]["config.yaml"].replace("/run/secrets", str(self.folder))
        assert yaml.safe_load(text)["reload_on_change"] is True
        mount(self.folder / "etc", {"config.yaml": text})


@pytest.fixture
def cluster(tmp_path):
    with ExitStack() as stack:
        yield Cluster(tmp_path, stack)


def test_two_replicas_share_a_token_are_scraped_and_take_changes_of_secrets_and_configuration(cluster):
    """From the chart's values to that, with no restart: the story of docs/kubernetes.md without a kubelet."""
    path = "/operate/v1/process-definitions/1"
    assert [ask(replica, path, None) for replica in cluster.replicas] == [401, 401]
    answers = [ask(replica, path, "first") for replica in cluster.replicas]
    assert 401 not in answers
    assert len(cluster.camunda.token_requests) == 1
    for replica in cluster.replicas:
        assert replica.metric("store_up") == 1
    mount(cluster.folder / "clients", {"orders": "second", "reports": "other"})
    for replica in cluster.replicas:
        until(lambda replica=replica: ask(replica, path, "second") == answers[0], "the new secret is taken")
        assert ask(replica, path, "first") == 401
        assert ask(replica, "/tasklist/v1/tasks/1", "second") == 404
    cluster.configure(
        {"routes": {"tasklist": {"credential": "cluster", "upstream": cluster.camunda.upstream("tasklist")}}}
    )
    for replica in cluster.replicas:
        until(lambda replica=replica: ask(replica, "/tasklist/v1/tasks/1", "second") != 404, "the new route is there")
    assert [replica.end() for replica in cluster.replicas] == [0, 0]
