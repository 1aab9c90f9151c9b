"""The methods of Zeebe's gateway (`gateway_protocol.Gateway` in Camunda's gateway.proto), and of which kind each is.

A call of a known method has one request, which is whole before anything is done: that costs half of what a call costs
of which nothing is known. Any other method is served too, as a stream in both directions, which every kind can be
carried by.
"""

from __future__ import annotations

from typing import Literal

Kind = Literal["unary", "server_streaming", "unknown"]

OTHER = "other"
"""The label of methods that are not known: a metric's label takes no value that a client can invent."""

_SERVICE = "/gateway_protocol.Gateway/"
_SERVER_STREAMING = ("ActivateJobs", "StreamActivatedJobs")
_UNARY = (
    *("BroadcastSignal", "CancelProcessInstance", "CompleteJob", "CreateProcessInstance"),
    *("CreateProcessInstanceWithResult", "DeleteResource", "DeployProcess", "DeployResource", "EvaluateDecision"),
    *("FailJob", "MigrateProcessInstance", "ModifyProcessInstance", "PublishMessage", "ResolveIncident"),
    *("SetVariables", "ThrowError", "Topology", "UpdateJobRetries", "UpdateJobTimeout"),
)
KINDS: dict[str, Kind] = {
    **{_SERVICE + name: "unary" for name in _UNARY},
    **{_SERVICE + name: "server_streaming" for name in _SERVER_STREAMING},
}
"""By a call's whole path."""


def label(method: str) -> str:
    """The method's name in metrics."""
    return method.removeprefix(_SERVICE) if method in KINDS else OTHER
