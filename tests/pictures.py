"""The pictures of docs/architecture.md, drawn from the code: `python -m tests.pictures` puts them there.

They are Mermaid, which GitHub and most viewers of Markdown draw.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from sidecar.proxy.stages import DONE, TRANSITIONS
from sidecar.tokens.events import Rejected, Saved
from sidecar.tokens.lifecycle import WANTED, decide
from sidecar.tokens.token_record import PutToken
from sidecar.tokens.token_state import Freshness, TokenState, freshness
from tests.test_architecture import FOUNDATION, MODULES, imported, room_of
from tests.tokens import states

PAGE = Path(__file__).parents[1] / "docs/architecture.md"
PLANES = {
    "data plane": ("proxy", "grpc"),
    "control plane": ("tokens", "credentials", "admin", "authorize", "telemetry"),
}
OUTSIDE = (
    'programs(["programs"]) ==> proxy',
    """proxy ==> upstreams(["Camunda's APIs"])""",
    'credentials ==> issuers(["issuers"])',
    'tokens ==> stores[("token store")]',
    'operators(["kubelet, Prometheus, people"]) ==> admin',
)
INTERFACES = ("proxy.authorizer", "telemetry.http")
"""Modules of one room that others know of it, and of nothing else in it."""
LEFT_OUT = FOUNDATION | {"cli", "demo", "__main__", "__init__", "status_report"}
"""What is used everywhere, or uses everything: arrows that say nothing."""


def planes() -> str:
    """Which room imports from which, as far as another arrow does not say it already, and who is outside."""
    uses: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        if room_of(module) not in LEFT_OUT:
            uses.setdefault(part_of(module), set()).update(map(part_of, imported(path)))
    uses = {part: {used for used in found if used in uses and used != part} for part, found in uses.items()}
    lines = ["flowchart TD"]
    for plane, rooms in PLANES.items():
        lines += [f'  subgraph {plane.replace(" ", "_")}["{plane}"]']
        lines += [f"    {part}" for part in uses if part.partition(".")[0] in rooms]
        lines += ["  end"]
    lines += [f"  {line}" for line in OUTSIDE]
    for part, used in uses.items():
        nearer = {far for near in used for far in reached(near, uses)}
        lines += [f"  {part} --> {one}" for one in sorted(used - nearer)]
    return "\n".join(lines)


def part_of(module: str) -> str:
    """The box that a module is drawn in: its room's, or its own."""
    return next((name for name in INTERFACES if module == name or module.startswith(f"{name}.")), room_of(module))


def reached(room: str, uses: dict[str, set[str]]) -> set[str]:
    """Every room that `room` imports from, at whatever distance."""
    return uses[room] | {far for near in uses[room] for far in reached(near, uses)}


def request_stages() -> str:
    """A request's stages, from the table that the exchange goes by."""
    lines = ["stateDiagram-v2", f"  [*] --> {next(iter(TRANSITIONS))}"]
    for stage, events in TRANSITIONS.items():
        lines += labelled(stage, ((event, after) for event, after in events.items()))
    return "\n".join([*lines, f"  {DONE} --> [*]"])


def token_states() -> str:
    """A token's states: what time, a new token and an upstream's refusal make of each, and what a client gets in it."""
    moments = {Freshness.FRESH: states.FRESH, Freshness.STALE: states.STALE, Freshness.EXPIRED: states.LAST}
    lines = ["stateDiagram-v2", f"  [*] --> {freshness(TokenState(), states.FRESH).name}"]
    for state, now in moments.items():
        token = states.holding()
        assert freshness(token, now) is state
        later = [freshness(token, moment) for moment in sorted(moments.values()) if moment > now][:1]
        fetched, _ = decide(token, Saved(PutToken(states.token("v2", born=now))), now, 0.0)
        refused, _ = decide(token, Rejected("v1"), now, 0.0)
        changes = [("time passes", one) for one in later]
        changes += [("a new token comes", freshness(fetched, now)), ("an upstream refuses it", freshness(refused, now))]
        lines += labelled(state.name, [(what, after.name) for what, after in changes if after is not state])
        lines += [f"  {state.name} : {case}" for case in answers(state)]
    return "\n".join(lines)


def answers(state: Freshness) -> Iterator[str]:
    """What a client gets that wants a token in this state, by the table that the lifecycle goes by."""
    told = {(is_usable, is_held): answer for (of, is_usable, is_held), answer in WANTED.items() if of is state}
    for is_usable in sorted({is_usable for is_usable, _ in told}, reverse=True):
        freely, held = (told[is_usable, is_held].name.lower().replace("_", " ") for is_held in (False, True))
        otherwise = f" ({held} while the issuer is not to be asked)" if held != freely else ""
        yield ("" if is_usable else "once it is of no use - ") + freely + otherwise


def labelled(before: str, changes: Iterable[tuple[str, str]]) -> list[str]:
    """One arrow for each pair of states, with all the events that take it."""
    by_target: dict[str, list[str]] = {}
    for event, after in changes:
        by_target.setdefault(after, []).append(event)
    return [f"  {before} --> {after} : {', '.join(events)}" for after, events in by_target.items()]


PICTURES = {"planes": planes, "request": request_stages, "token": token_states}


def drawn(page: str) -> str:
    """The page with each of its pictures as the code has it now."""
    for name, draw in PICTURES.items():
        pattern = rf"(<!-- picture: {name} -->\n```mermaid\n).*?(```\n<!-- end -->)"
        assert re.search(pattern, page, re.DOTALL), f"docs/architecture.md has no place for the picture {name}"
        page = re.sub(pattern, lambda found, draw=draw: found[1] + draw() + "\n" + found[2], page, flags=re.DOTALL)
    return page


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text()))
