"""The Helm chart, rendered by Helm's own engine over every combination of its main values."""

import itertools
import json
import re
from pathlib import Path

import pytest
import trustme
import yaml

from sidecar import __version__
from sidecar.config import load
from sidecar.config.restart import NEEDS_RESTART
from sidecar.config.settings import FileStore, Settings
from tests import needs
from tests.deploy.charts import CHART, files, merged, mistakes, one, pod_of, render, sidecar_in, values
from tests.deploy.pod_security import violations
from tests.deploy.support import DEPLOY

BARE = {
    "config": {
        "saas": {"region": "bru-2", "cluster_id": "11111111-1111-1111-1111-111111111111"},
        "credentials": {
            "cluster": {
                "type": "client_credentials",
                "client_id": "${ZEEBE_CLIENT_ID}",
                "client_secret_file": "/run/secrets/camunda/client-secret",
            }
        },
        "routes": {"operate": {"credential": "cluster"}},
    },
    "secrets": {"camunda": {"name": "camunda-credentials", "env": {"ZEEBE_CLIENT_ID": "client-id"}}},
}
STORES = {
    "file": {"config": {"token_store": {"type": "file"}}},
    "memory": {"config": {"token_store": {"type": "memory"}}},
    "redis": {"config": {"token_store": {"type": "redis", "url": "redis://valkey:6379/0"}}},
}
TLS = {"certificate_file": "/run/secrets/tls/tls.crt", "key_file": "/run/secrets/tls/tls.key"}
WHO = {
    "clients": {
        "config": {"clients": {"billing": {"secret_file": "/run/secrets/clients/billing"}}, "listen_tls": TLS},
        "secrets": {"clients": {"name": "camunda-sidecar-clients"}, "tls": {"name": "camunda-sidecar-tls"}},
    },
    "mutual": {
        "config": {
            "clients": {"reports": {"certificate": {"subject": "CN=reports"}, "routes": ["operate"]}},
            "listen_tls": TLS | {"client_ca_file": "/run/secrets/tls/ca.crt"},
        },
        "secrets": {"tls": {"name": "camunda-sidecar-tls", "keys": ["tls.crt", "tls.key", "ca.crt"]}},
    },
    "anybody": {"allowAnonymousClients": True},
}
GRPC = {"http": {}, "grpc": {"config": {"grpc": {"credential": "cluster"}}}}
KINDS = ("podMonitor", "serviceMonitor", "prometheusRule", "dashboard")
COMMON = (
    {"bare": {}, "monitors": {"monitoring": {kind: {"enabled": True} for kind in KINDS}}},
    {"closed": {"networkPolicy": {"enabled": True}}, "open": {"networkPolicy": {"enabled": False}}},
    {"secret": {}, "csi": {"secrets": {"vault": {"secretProviderClass": "camunda-credentials"}}}},
)
FIXED = {name: {"enabled": False} for name in ("autoscaling", "podDisruptionBudget", "topologySpread")}
MODES = {
    "pod": (
        {"native": {}, "ordinary": {"native": False}},
        STORES,
        {"injected": {"injection": {"kyverno": {"enabled": True}}}, "library": {}},
        GRPC,
    ),
    "node": (STORES, WHO),
    "node-grpc": (STORES, {"anybody": WHO["anybody"] | GRPC["grpc"]}),
    "cluster": ({"redis": STORES["redis"]}, WHO, {"scaled": {}, "fixed": FIXED}),
}


def laid(*layers: dict) -> dict:
    """Values over values over values."""
    out: dict = {}
    for layer in layers:
        out = merged(out, layer)
    return out


def combinations() -> dict[str, dict[str, dict]]:
    """Every combination of the main values, grouped by the mode and what that mode has of its own."""
    return {
        "-".join([mode, *(name for name, _ in special)]): {
            "-".join(name for name, _ in choice): laid(
                BARE, {"mode": mode.partition("-")[0]}, *(layer for _, layer in (*special, *choice))
            )
            for choice in itertools.product(*(option.items() for option in COMMON))
        }
        for mode, own in MODES.items()
        for special in itertools.product(*(option.items() for option in own))
    }


ALL = combinations()
EVERY = pytest.mark.parametrize("group", ALL.values(), ids=ALL)


def configuration(objects: list[dict]) -> dict:
    """The ConfigMap with the configuration; a dashboard is another one."""
    [found] = [each for each in objects if each["kind"] == "ConfigMap" and "config.yaml" in each["data"]]
    return found


def pods(objects: list[dict]) -> list[dict]:
    """The pods that the chart itself makes; what its policy makes of others', of an empty one."""
    made = [pod_of(each) for each in objects if each["kind"] in {"Deployment", "DaemonSet"}]
    for policy in (each for each in objects if each["kind"] == "ClusterPolicy"):
        patch = policy["spec"]["rules"][0]["mutate"]["patchStrategicMerge"]
        metadata = {"name": "a-pod"} | patch["metadata"]
        spec = {"containers": [{"name": "application", "image": "example.com/application:1.0.0"}]} | patch["spec"]
        made.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    return made


def oldest(given: dict) -> str:
    """The first version of Kubernetes that the chart supports with these values; native sidecars are on since 1.29."""
    return "1.29" if given["mode"] == "pod" and given.get("native", True) else "1.25"


@EVERY
def test_every_object_is_one_that_the_api_server_accepts(group):
    """By the strict schemas of the oldest supported version and of the newest: a misspelt field is found."""
    for name, given in group.items():
        objects = render(given)
        for version in (oldest(given), "1.37"):
            assert (name, mistakes([*objects, *pods(objects)], version)) == (name, [])


@EVERY
def test_every_pod_keeps_the_profile_restricted(group):
    """Every control of the Pod Security Standard, by the sidecar's container alone: whatever pod it comes into."""
    for pod in (pod for given in group.values() for pod in pods(render(given))):
        container = sidecar_in(pod["spec"])
        alone = {"volumes": pod["spec"]["volumes"], "containers": [container]}
        assert violations({"metadata": pod["metadata"], "spec": alone}) == []
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["runAsUser"] == 65532


@EVERY
def test_every_name_that_an_object_uses_is_there(group):
    """Mounts have volumes, probes, Services and monitors have ports, selectors have pods."""
    for given in group.values():
        complete(render(given))


def complete(objects: list[dict]) -> None:
    """Nothing names what is not there."""
    config = configuration(objects)
    kinds = {
        kind: [each for each in objects if each["kind"] == kind] for kind in ("Service", "PodMonitor", "ServiceMonitor")
    }
    for pod in pods(objects):
        container, there = sidecar_in(pod["spec"]), pod["metadata"]["labels"].items()
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
        assert volumes["camunda-sidecar-config"]["configMap"]["name"] == config["metadata"]["name"]
        ports = {port["name"] for port in container["ports"]}
        probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]
        assert {probe["port"] for probe in probes} <= ports
        for service in kinds["Service"]:
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
            assert service["spec"]["selector"].items() <= there
        for monitor in kinds["PodMonitor"]:
            assert {end["port"] for end in monitor["spec"]["podMetricsEndpoints"]} <= ports
            assert monitor["spec"]["selector"]["matchLabels"].items() <= there
    for monitor in kinds["ServiceMonitor"]:
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        [service] = [each for each in kinds["Service"] if wanted <= each["metadata"]["labels"].items()]
        assert [port["name"] for port in service["spec"]["ports"]] == ["sidecar-admin"]


@EVERY
def test_the_configuration_inside_is_valid_with_what_the_container_has(group, tmp_path):
    """Every secret file that it names is mounted, every variable is set, and its ports are the container's."""
    for name, given in group.items():
        settings = loaded(given, tmp_path / name)
        assert str(settings.admin.listen) == "0.0.0.0:8601"
        assert str(settings.listen) == ("127.0.0.1:8600" if given["mode"] == "pod" else "0.0.0.0:8600")
        assert settings.guard.allow_remote is (given["mode"] != "pod")
        for pod in pods(render(given)):
            mounts = sidecar_in(pod["spec"])["volumeMounts"]
            assert [mount["mountPath"] for mount in mounts if not mount.get("readOnly")] == ["/var/lib/camunda-sidecar"]
            grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
            assert grace >= settings.drain_delay + settings.drain_timeout + 5
        if isinstance(settings.token_store, FileStore):
            assert str(settings.token_store.directory) == "/var/lib/camunda-sidecar/tokens"


CA = trustme.CA()
SERVER = CA.issue_cert("camunda-sidecar.billing.svc")
SECRETS = {
    "url": "redis://:a-password@valkey:6379/0",
    "crt": b"".join(blob.bytes() for blob in (*SERVER.cert_chain_pems, CA.cert_pem)).decode(),
    "key": SERVER.private_key_pem.bytes().decode(),
}


def loaded(given: dict, folder: Path) -> Settings:
    """The rendered configuration, read with a file for each key of the secrets and the container's variables."""
    text, secrets = configuration(render(given))["data"]["config.yaml"], folder / "secrets"
    for directory in given["secrets"]:
        (secrets / directory).mkdir(parents=True)
    for file in re.findall(r"/run/secrets/(\S+)", text):
        (secrets / file).write_text(SECRETS.get(re.split(r"[./]", file)[-1], "a secret"))
    path = folder / "config.yaml"
    path.write_text(text.replace("/run/secrets", str(secrets)))
    return load(path, {variable: "x" for secret in given["secrets"].values() for variable in secret.get("env", {})})


@pytest.mark.parametrize("example", ["pod", "pod-container", "node", "cluster"])
def test_the_charts_examples_of_values_are_whole(example, tmp_path):
    """What they render to loads: they are what people copy, and what Kustomize's bases are made of."""
    settings = loaded(values(example), tmp_path)
    assert [*settings.routes] == ["operate", "optimize", "zeebe"]
    assert not settings.warnings


REFUSED = {
    "missing propert.* 'credentials'": {"mode": "pod", "config": {"routes": {"a": {}}}},
    "at '/mode'": laid(BARE, {"mode": "host"}),
    "additional propert.* 'replicaCount'": laid(BARE, {"replicaCount": 3}),
    "at '/image/digest'": laid(BARE, {"image": {"digest": "latest"}}),
    "by Redis or Valkey only": laid(BARE, {"mode": "cluster"}, WHO["clients"]),
    "set config.clients": laid(BARE, {"mode": "node"}),
    "gRPC knows no clients": laid(BARE, {"mode": "node"}, WHO["clients"], GRPC["grpc"]),
    "needs mode pod": laid(BARE, {"mode": "node", "injection": {"kyverno": {"enabled": True}}}, WHO["anybody"]),
    "at '/secrets/camunda'": laid(BARE, {"secrets": {"camunda": {"secretProviderClass": "both"}}}),
}


@pytest.mark.parametrize(("says", "given"), REFUSED.items(), ids=REFUSED)
def test_what_could_not_work_is_refused_with_a_reason(says, given):
    """`helm install` says so, and not a pod that never gets ready."""
    with pytest.raises(needs.module("helm_python").HelmError) as refused:
        render(given)
    assert re.search(says, str(refused.value))


def test_helm_has_nothing_to_say_against_it():
    """`helm lint --strict`, with each of the chart's examples of values."""
    helm = needs.module("helm_python")
    for example in sorted((CHART / "ci").glob("*.yaml")):
        found = helm.lint(CHART, values(example.name.removesuffix("-values.yaml")), strict=True)
        messages = [message["error"] for message in found["messages"]]
        assert (found["errors"], messages) == ([], ["icon is recommended"])


def test_the_chart_has_the_programs_version():
    """Image and chart are released together."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_a_digest_goes_before_a_tag():
    """What runs is what was verified."""
    digest = "sha256:" + "0" * 64
    given = laid(values("cluster"), {"image": {"digest": digest, "tag": "1.0.0", "repository": "registry/sidecar"}})
    assert sidecar_in(pod_of(one(render(given), "Deployment"))["spec"])["image"] == f"registry/sidecar@{digest}"


def test_what_the_values_say_goes_before_what_the_chart_adds():
    """Any key of the configuration can be set, those that follow from the mode too."""
    given = laid(values("node"), {"config": {"listen": "[::]:8600", "drain_delay": "30s", "guard": {"hosts": ["a.b"]}}})
    config = yaml.safe_load(configuration(render(given))["data"]["config.yaml"])
    assert (config["listen"], config["drain_delay"]) == ("[::]:8600", "30s")
    assert config["guard"] == {"allow_remote": True, "hosts": ["a.b"]}


@pytest.mark.parametrize(
    ("change", "restarts"),
    [
        ({"routes": {"tasklist": {"credential": "cluster"}}}, False),
        ({"logging": {"level": "debug"}}, False),
        ({"token_store": {"url": "redis://another:6379/0"}}, True),
        ({"admin": {"listen": "0.0.0.0:8602"}}, True),
    ],
    ids=["route", "log level", "store", "admin listener"],
)
def test_pods_are_replaced_only_for_what_a_reload_does_not_change(change, restarts):
    """The mounted file is taken into force by itself; the checksum is of the keys that need a restart."""
    before, after = (
        pod_of(one(render(laid(values("cluster"), {"config": {"reload_on_change": True} | extra})), "Deployment"))
        for extra in ({}, change)
    )
    assert (before != after) is restarts
    keys = {key.partition(".")[0] for key in (*NEEDS_RESTART, "grpc")}
    assert keys == {"listen", "admin", "authorize", "grpc", "token_store"}, "the chart's checksum lacks a key"


def test_a_nodes_pods_reach_the_sidecar_of_their_node():
    """The Service of the DaemonSet sends nothing to another node; that of the Deployment does."""
    assert one(render(values("node")), "Service")["spec"]["internalTrafficPolicy"] == "Local"
    assert "internalTrafficPolicy" not in one(render(values("cluster")), "Service")["spec"]


def test_no_secret_is_among_the_objects():
    """The chart makes none: a release's values are kept in the cluster, and shown by `helm get values`."""
    for given in (given for group in ALL.values() for given in group.values()):
        assert not any(each["kind"] == "Secret" for each in render(given))


def test_an_ordinary_container_holds_the_applications_start_back():
    """The kubelet starts the next container when the first one's postStart has ended: the sidecar is ready then."""
    [pod] = pods(render(values("pod-container")))
    first, *_ = pod["spec"]["containers"]
    assert first["lifecycle"]["postStart"]["exec"]["command"][:2] == ["camunda-sidecar", "wait"]
    assert "restartPolicy" not in first
    [pod] = pods(render(values("pod")))
    [native] = pod["spec"]["initContainers"]
    assert (native["restartPolicy"], "lifecycle" in native) == ("Always", False)


def test_the_network_policy_lets_through_what_the_sidecar_needs_and_nothing_else():
    """DNS, the store, HTTPS anywhere but to the cloud's metadata service; in come callers and Prometheus."""
    spec = one(render(values("cluster")), "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert [[port["port"] for port in rule["ports"]] for rule in spec["ingress"]] == [["sidecar"], ["sidecar-admin"]]
    assert [[port["port"] for port in rule["ports"]] for rule in spec["egress"]] == [[53, 53], [443], [6379]]
    assert "169.254.0.0/16" in spec["egress"][1]["to"][0]["ipBlock"]["except"]
    pod = one(render(laid(values("pod"), {"networkPolicy": {"enabled": True}})), "NetworkPolicy")["spec"]
    assert pod["policyTypes"] == ["Egress"]


def test_the_notes_say_where_to_call():
    """`helm install` ends with the address, and with a warning where anybody may use the credentials."""
    notes = "camunda-sidecar/templates/NOTES.txt"
    assert "https://camunda-sidecar.billing.svc:8600" in files(values("cluster"))[notes]
    assert "WARNING" in files(laid(BARE, {"mode": "node"}, WHO["anybody"]))[notes]
    assert 'camunda-sidecar/inject: "true"' in files(values("pod"))[notes]


def test_the_dashboard_and_the_rules_are_the_ones_that_are_tested():
    """Grafana's sidecar finds the ConfigMap by its label; the operator gets the groups of deploy/alerts.yaml."""
    objects = render(values("cluster"))
    [board] = [each for each in objects if "camunda-sidecar.json" in each.get("data", {})]
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(board["data"]["camunda-sidecar.json"]) == json.loads(
        (DEPLOY / "grafana/dashboard.json").read_text()
    )
    assert one(objects, "PrometheusRule")["spec"] == yaml.safe_load((DEPLOY / "alerts.yaml").read_text())
