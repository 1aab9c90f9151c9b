import pytest
import yaml

from sidecar.config import load
from tests.admin.support import ask, serving
from tests.deploy.support import documents, of_kind, pod, sidecar


def configuration() -> str:
    return of_kind("ConfigMap")["data"]["config.yaml"]


def environment() -> dict[str, str]:
    return {variable["name"]: "demo" for variable in sidecar()["env"]}


def admin_port() -> int:
    [port] = [port["containerPort"] for port in sidecar()["ports"] if port["name"] == "sidecar-admin"]
    return port


@pytest.fixture
def settings(tmp_path):
    """The manifest's configuration, loaded with what the container's environment and mounts give it."""
    text = configuration()
    for volume in pod()["spec"]["volumes"]:
        for item in volume.get("secret", {}).get("items", []):
            (tmp_path / item["path"]).write_text("secret")
    [mounted] = [mount["mountPath"] for mount in sidecar()["volumeMounts"] if mount["name"] == "camunda-credentials"]
    file = tmp_path / "config.yaml"
    file.write_text(text.replace(mounted, str(tmp_path)))
    return load(file, environment())


def test_the_configuration_inside_is_valid_with_what_the_container_has(settings):
    """Every variable and every secret file that the configuration names is given to the container."""
    assert [route.name for route in settings.routes.values()] == ["operate", "optimize", "zeebe", "console", "hub"]
    assert not settings.warnings


def test_it_is_a_native_sidecar():
    """An init container that restarts always: up before the application, down after it."""
    assert sidecar()["restartPolicy"] == "Always"
    assert pod()["spec"]["containers"]


async def test_every_probe_asks_for_what_is_served():
    """Each probe's path answers 200 on a ready admin listener, at the port that the configuration binds."""
    listen = yaml.safe_load(configuration())["admin"]["listen"]
    assert listen == f"0.0.0.0:{admin_port()}"
    probes = {name: sidecar()[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    async with serving() as running:
        codes = {
            name: (await ask(running, f"GET {probe['path']} HTTP/1.1\nHost: 10.0.0.1"))[0]
            for name, probe in probes.items()
        }
    assert codes == dict.fromkeys(probes, 200)
    assert {probe["port"] for probe in probes.values()} == {"sidecar-admin"}


def test_only_the_pod_reaches_the_proxy(settings):
    """The proxy listens on the pod's loopback, the admin listener for kubelet and Prometheus."""
    assert str(settings.listen) == "127.0.0.1:8600"
    assert settings.guard.allow_remote is False
    [application] = pod()["spec"]["containers"]
    urls = [variable["value"] for variable in application["env"] if variable["value"].startswith("http")]
    prefixes = {route.prefix for route in settings.routes.values()}
    assert urls
    assert {url.removeprefix(f"http://{settings.listen}") for url in urls} <= prefixes


def test_the_pod_security_standard_restricted_is_kept():
    """Not root, no escalation, no capability, a seccomp profile, a read-only root."""
    spec = pod()["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*spec["initContainers"], *spec["containers"]]:
        context = container["securityContext"]
        assert (context["allowPrivilegeEscalation"], context["capabilities"]) == (False, {"drop": ["ALL"]})
        assert context["readOnlyRootFilesystem"] is True
        assert context["runAsUser"] != 0
    assert sidecar()["securityContext"]["runAsUser"] == 65532


def test_secrets_come_as_files_and_the_application_has_none():
    """The sidecar alone mounts the secret, readable for its group only; the application's environment names none."""
    [secret] = [volume["secret"] for volume in pod()["spec"]["volumes"] if "secret" in volume]
    assert secret["defaultMode"] == 0o440
    [application] = pod()["spec"]["containers"]
    assert "camunda-credentials" not in str(application)
    assert not [variable for variable in sidecar()["env"] if "SECRET" in variable["name"]]


def test_the_store_lies_on_a_writable_volume(settings):
    """The root is read-only, so the store's directory must be below a mount that is not."""
    writable = [mount["mountPath"] for mount in sidecar()["volumeMounts"] if not mount.get("readOnly")]
    assert any(str(settings.token_store.directory).startswith(f"{path}/") for path in writable)


def test_every_mount_has_its_volume_and_the_selector_its_pod():
    """What the API server would refuse."""
    names = {volume["name"] for volume in pod()["spec"]["volumes"]}
    assert {mount["name"] for mount in sidecar()["volumeMounts"]} == names
    labels = pod()["metadata"]["labels"]
    assert of_kind("Deployment")["spec"]["selector"]["matchLabels"] == labels
    [monitor] = documents("podmonitor.yaml")
    assert monitor["spec"]["selector"]["matchLabels"] == labels


def test_metrics_are_scraped_where_they_are_served():
    """Annotations and PodMonitor name the admin port and /metrics."""
    annotations = pod()["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(admin_port())
    [monitor] = documents("podmonitor.yaml")
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    assert (annotations["prometheus.io/path"], endpoint["path"]) == ("/metrics", "/metrics")
    assert endpoint["port"] == "sidecar-admin"


def test_the_grace_period_covers_the_drain(settings):
    """Kubernetes must not kill what is still draining."""
    assert pod()["spec"]["terminationGracePeriodSeconds"] > settings.drain_timeout + 5
