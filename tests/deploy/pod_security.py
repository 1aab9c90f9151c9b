"""The Pod Security Standard `restricted`, with everything of `baseline`, as code: each control is one check.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from collections.abc import Iterator

SELINUX_TYPES = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
SYSCTLS = {
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"),
    *("net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports"),
    *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl"),
    *("net.ipv4.tcp_keepalive_probes",),
}
VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"),
}
PROFILES = {"RuntimeDefault", "Localhost"}
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


def violations(pod: dict) -> list[str]:
    """Every control of the profile `restricted` that the pod breaks."""
    return [
        *_pod_level(pod),
        *(found for container in _containers(pod["spec"]) for found in _container(pod, container)),
    ]


def _containers(spec: dict) -> list[dict]:
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return [container for kind in kinds for container in spec.get(kind, [])]


def _pod_level(pod: dict) -> Iterator[str]:
    spec, context = pod["spec"], pod["spec"].get("securityContext", {})
    yield from (f"{name} is true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name))
    for volume in spec.get("volumes", []):
        if kinds := volume.keys() - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is {kinds}"
    yield from (f"sysctl {each['name']}" for each in context.get("sysctls", []) if each["name"] not in SYSCTLS)
    yield from _security_context("pod", context)
    for key, value in pod["metadata"].get("annotations", {}).items():
        if key.startswith(APPARMOR) and not value.startswith(("runtime/default", "localhost/")):
            yield f"{key}: {value}"


def _container(pod: dict, container: dict) -> Iterator[str]:
    name, context = container["name"], container.get("securityContext", {})
    inherited = pod["spec"].get("securityContext", {}) | context
    yield from _security_context(name, context)
    yield from (f"{name}: hostPort" for port in container.get("ports", []) if port.get("hostPort"))
    for handler in _handlers(container):
        hosts = [action.get("host") for action in handler.values() if isinstance(action, dict)]
        yield from (f"{name}: the host {host} of a probe" for host in hosts if host)
    if context.get("privileged"):
        yield f"{name}: privileged"
    if context.get("procMount", "Default") != "Default":
        yield f"{name}: procMount"
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: allowPrivilegeEscalation"
    if inherited.get("runAsNonRoot") is not True:
        yield f"{name}: runAsNonRoot"
    if inherited.get("seccompProfile", {}).get("type") not in PROFILES:
        yield f"{name}: seccompProfile"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield f"{name}: capabilities.drop lacks ALL"
    if extra := set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"{name}: capabilities {extra}"


def _handlers(container: dict) -> Iterator[dict]:
    yield from (container[probe] for probe in ("startupProbe", "readinessProbe", "livenessProbe") if probe in container)
    yield from container.get("lifecycle", {}).values()


def _security_context(whose: str, context: dict) -> Iterator[str]:
    """What holds for a pod's context and for a container's alike."""
    if context.get("runAsUser") == 0:
        yield f"{whose}: runAsUser 0"
    if context.get("runAsNonRoot") is False:
        yield f"{whose}: runAsNonRoot false"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield f"{whose}: hostProcess"
    options = context.get("seLinuxOptions", {})
    if options.get("type") not in SELINUX_TYPES or options.get("user") or options.get("role"):
        yield f"{whose}: seLinuxOptions"
    if context.get("seccompProfile", {}).get("type", "RuntimeDefault") not in PROFILES:
        yield f"{whose}: seccompProfile Unconfined"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in PROFILES:
        yield f"{whose}: appArmorProfile"
