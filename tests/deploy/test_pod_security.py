"""The check of the profile `restricted` finds what it is for: a check that finds nothing proves nothing."""

import copy

import pytest

from tests.deploy.pod_security import violations

CONTEXT = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
GOOD = {"metadata": {}, "spec": {"containers": [{"name": "a", "securityContext": CONTEXT}]}}
BROKEN = {
    "hostNetwork": {"hostNetwork": True},
    "hostPID": {"hostPID": True},
    "hostIPC": {"hostIPC": True},
    "hostPath": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
    "sysctl": {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
    "unconfined": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
    "selinux": {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}},
    "root": {"securityContext": {"runAsUser": 0}},
    "windows": {"securityContext": {"windowsOptions": {"hostProcess": True}}},
    "apparmor": {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
}
CONTAINER = {
    "privileged": {"privileged": True},
    "escalation": {"allowPrivilegeEscalation": True},
    "root": {"runAsUser": 0},
    "maybe root": {"runAsNonRoot": False},
    "capability": {"capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]}},
    "keeps capabilities": {"capabilities": {}},
    "proc": {"procMount": "Unmasked"},
    "seccomp": {"seccompProfile": {"type": "Unconfined"}},
}


def test_what_is_restricted_passes():
    """Nothing is found where nothing is wrong."""
    assert violations(GOOD) == []


@pytest.mark.parametrize("spec", BROKEN.values(), ids=BROKEN)
def test_each_control_of_a_pod_is_found(spec):
    """One mistake, at least one finding."""
    assert violations({"metadata": {}, "spec": GOOD["spec"] | spec})


@pytest.mark.parametrize("context", CONTAINER.values(), ids=CONTAINER)
def test_each_control_of_a_container_is_found(context):
    """In init containers too, and also where the pod says better."""
    pod = copy.deepcopy(GOOD)
    pod["spec"]["securityContext"] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    pod["spec"]["initContainers"] = [{"name": "b", "securityContext": CONTEXT | context}]
    assert violations(pod)


@pytest.mark.parametrize("name", [*CONTEXT])
def test_what_is_left_out_is_found(name):
    """`restricted` wants each said."""
    pod = copy.deepcopy(GOOD)
    del pod["spec"]["containers"][0]["securityContext"][name]
    assert violations(pod)


def test_a_port_of_the_host_and_a_probe_of_another_host_are_found():
    """Both reach out of the pod."""
    for broken in ({"ports": [{"hostPort": 80}]}, {"livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}):
        pod = copy.deepcopy(GOOD)
        pod["spec"]["containers"][0] |= broken
        assert violations(pod)
