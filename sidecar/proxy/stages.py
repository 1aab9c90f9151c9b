"""The stages of an exchange and what leads from one to the next, as data; `exchange.py` does what they say.

A stage is what the exchange waits for. An event is something that its client, its upstream, the pool or the credential
does; an event that does not stand beside a stage cannot happen in it.
"""

from __future__ import annotations

from typing import Final

WAIT_CREDENTIAL: Final = "wait_credential"
WAIT_CONNECTION: Final = "wait_connection"
WAIT_RESPONSE: Final = "wait_response"
WAIT_REPLACEMENT: Final = "wait_replacement"
SEND_BODY: Final = "send_body"
SWITCHED_PROTOCOL: Final = "switched_protocol"
DONE: Final = "done"

_AT_ANY_TIME = {"error": DONE, "client_disconnected": DONE}
TRANSITIONS: Final[dict[str, dict[str, str]]] = {
    # The route's credential; the request's body is held back meanwhile. Mostly it is at hand, and so is a connection.
    # `end_of_message`: the credential was all that was asked for, at the token endpoint.
    WAIT_CREDENTIAL: {
        "request_sent": WAIT_RESPONSE,
        "credential_obtained": WAIT_CONNECTION,
        "end_of_message": DONE,
        **_AT_ANY_TIME,
    },
    # A connection from the pool. The credential, which is attached just before sending, may expire over that.
    WAIT_CONNECTION: {"request_sent": WAIT_RESPONSE, "credential_expired": WAIT_CREDENTIAL, **_AT_ANY_TIME},
    # The response's head; a small response comes whole. `connection_lost`: a reused connection ended before it.
    WAIT_RESPONSE: {
        "response": SEND_BODY,
        "end_of_message": DONE,
        "credential_refused": WAIT_REPLACEMENT,
        "connection_lost": WAIT_CONNECTION,
        "protocol_switched": SWITCHED_PROTOCOL,
        **_AT_ANY_TIME,
    },
    # Another credential; the response that refused the first one is held until it is there, or known not to come.
    WAIT_REPLACEMENT: {"credential_replaced": WAIT_CONNECTION, "response": SEND_BODY, **_AT_ANY_TIME},
    # The rest of the response: its head is with the client.
    SEND_BODY: {"end_of_message": DONE, **_AT_ANY_TIME},
    # The end of a tunnel.
    SWITCHED_PROTOCOL: {"end_of_message": DONE, **_AT_ANY_TIME},
    DONE: {},
}
