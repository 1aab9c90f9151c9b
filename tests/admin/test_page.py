"""The status page, in a real browser, of real sidecars whose troubles are real."""

import asyncio
import contextlib
import re
import shutil
import signal

import pytest

from sidecar.admin.live import MOST_ROWS
from sidecar.admin.page import load_page
from sidecar.admin.status_model import IssuerStatus, RouteStatus, TokenStatus
from sidecar.telemetry.history import STEP, Event, Recent
from tests.acceptance.peers import grants, peer, refuses, says
from tests.acceptance.support import SECRET, configuration, ending, running, spawn, until, write
from tests.admin.browser import browsing
from tests.admin.pictures import IMAGES, hour, told
from tests.admin.support import serving, status

README = IMAGES.parents[1] / "README.md"
SCREENS = ({"width": 1280}, {"width": 1280, "dark": True}, {"width": 390}, {"width": 390, "dark": True})


@pytest.fixture(scope="module")
def browser():
    with browsing() as one:
        yield one


def check_accessible(browser) -> None:
    """Nothing for axe-core to find, light and dark, wide and narrow; nothing is wider than a phone."""
    for screen in SCREENS:
        browser.look(**screen)
        assert browser.axe() == [], screen
        assert browser.run("return document.documentElement.scrollWidth") <= screen["width"]
    browser.look(1280)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """A sidecar with one route, whose token is there."""
    folder = tmp_path_factory.mktemp("healthy")
    with (
        peer(grants()) as issuer,
        peer(says(200, b"ok")) as upstream,
        running(folder, configuration(folder, issuer.url + "/t", {"operate": {"upstream": upstream.url}})) as sidecar,
    ):
        assert sidecar.ask("/operate/x").status == 200
        yield sidecar


def test_all_is_well(browser, healthy):
    """Banner, title and icon say so; the token's life, the issuer's limit and the route stand below."""
    browser.open(f"http://{healthy.admin}/")
    browser.says(".banner.good", "All is well", "1 route, 1 token in use")
    assert browser.run("return document.title") == "✓ camunda-sidecar"
    assert "126b3a" in browser.run("return document.getElementById('icon').href")
    browser.says("section[aria-label=Tokens]", "operate.camunda.io", "Fresh", "renewed at", "ends")
    browser.says(
        "section[aria-label=Issuers]", "One request in 1.25 s", "1 token request in the last hour", "48 a minute"
    )
    browser.says(
        "section[aria-label='What happened']", "gave a token for operate.camunda.io", "The sidecar was started"
    )
    assert browser.run("return [...document.querySelectorAll('.dots li')].map(dot => dot.title)") == [
        *("route: serves", "token: fresh", "issuer: answers", "upstream: answers")
    ]
    check_accessible(browser)
    assert browser.complaints() == []


def test_it_is_live_and_leaves_the_reader_alone(browser, healthy):
    """New numbers come by themselves; focus and what is there stay: keyboard and screen reader keep their place."""
    browser.open(f"http://{healthy.admin}/")
    browser.says(".banner", "All is well")
    before = healthy.status()["routes"][0]["requests"]
    browser.run("window.kept = document.querySelector('[data-copy^=curl]'); window.kept.focus()")
    for _ in range(7):
        healthy.ask("/operate/x")
    browser.says(".banner", f"{before + 7} requests in the last five minutes")
    assert browser.run("return document.activeElement === window.kept && window.kept.isConnected")


def test_a_button_copies(browser, healthy):
    """The keyboard reaches it, and what it copies works in a shell as it is."""
    browser.tell("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    browser.open(f"http://{healthy.admin}/")
    browser.says(".banner", "All is well")
    browser.run("document.querySelector('[data-copy^=curl]').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.tell(
            "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
        )
    browser.says("#said", "Copied.")
    copied = browser.run("return navigator.clipboard.readText()")
    assert copied == f"curl -i 'http://{healthy.address}/operate/'"


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """A sidecar with every trouble at once, each made for real; the last is left to a test: that it drains."""
    folder = tmp_path_factory.mktemp("troubled")
    secret = folder / "secret"
    secret.write_text(SECRET)
    with contextlib.ExitStack() as stack:

        def serve(behaviour):
            return stack.enter_context(peer(behaviour))

        good, refusing, throttling = serve(grants()), serve(refuses(401)), serve(says(429, Retry_After="300"))
        upstream, failing, gone = serve(says(200, b"ok")), serve(says(500)), serve(says(200))
        gone.close()
        issuers = {"good": good, "wrong": refusing, "throttled": throttling, "silent": gone}
        credentials = {
            name: {
                "type": "client_credentials",
                "token_url": f"{issuer.url}/t",
                "client_id": name,
                **({"client_secret_file": str(secret)} if name == "good" else {"client_secret": SECRET + name}),
            }
            for name, issuer in issuers.items()
        }
        routes = {
            name: {"upstream": upstream.url, "credential": name, "audience": f"{name}.example"} for name in issuers
        }
        routes["down"] = {"upstream": f"{gone.url}/11111111-1111-4111-8111-111111111111", "credential": "good"}
        routes["errors"] = {"upstream": failing.url, "credential": "good"}
        for name in ("down", "errors"):
            routes[name]["audience"] = "good.example"
        settings = configuration(folder, "", routes, credentials=credentials, drain_delay="60s")
        settings["token_requests"] = {"min_interval": "0s", "max_wait": "5s", "timeout": "1s"}
        sidecar = stack.enter_context(running(folder, settings))
        codes = {
            name: [sidecar.ask(f"/{name}/x").status for _ in range(12 if name == "errors" else 1)][-1]
            for name in routes
        }
        expected = {"good": 200, "wrong": 502, "throttled": 503, "silent": 503, "down": 502, "errors": 500}
        assert codes == expected, sidecar.log
        secret.unlink()
        secret.mkdir()
        shutil.rmtree(folder / "store")
        (folder / "store").write_text("no directory")
        until(
            lambda: {"secret_file_unusable", "store_down"} <= {p["code"] for p in sidecar.status()["problems"]}, "found"
        )
        yield sidecar


@pytest.mark.parametrize(
    ("code", "words"),
    {
        "credential_refused": (
            "refuses the credential wrong",
            "access_denied",
            "cause: the credential",
            "Correct its secret",
        ),
        "token_unavailable": ("No token can be had with silent", "cause: the issuer", "camunda-sidecar doctor"),
        "issuer_cooling_down": ("throttles this address", "cause: the issuer", "share one token store"),
        "upstream_unreachable": ("11111111… can be made", "cause: the upstream", "DNS, TLS, a proxy"),
        "upstream_errors": ("answers with errors: 12 of 12", "cause: the upstream", "401 or 403"),
        "secret_file_unusable": ("credentials.good.client_secret", "cause: this host", "Repair the file"),
        "store_down": ("The token store (file", "cause: the store", "tokens are in memory alone"),
    }.items(),
)
def test_each_trouble_is_told_with_its_cause_and_its_cure(browser, troubled, code, words):
    """What is wrong, since when, where the cause lies, what to do, and a command to copy; the page begins with it."""
    browser.open(f"http://{troubled.admin}/")
    browser.says(".banner.critical", "Requests fail · since", "Cause:")
    problems = troubled.status()["problems"]
    found = [index for index, problem in enumerate(problems) if problem["code"] == code]
    index = found[-1]
    place = f".banner li:nth-child({index})" if index else ".banner > div"
    told = browser.says(place, *(word if index else word.removeprefix("cause: ") for word in words))
    assert re.search(r"[Ss]ince \d\d:\d\d:\d\d \(", told)
    assert f"--config {troubled.file}" in told
    assert browser.run("return document.title").startswith(f"✕ {len(problems)} problems")


def test_the_tables_follow(browser, troubled):
    """Routes in trouble come first, with dots, shares, the last error and its id; tokens quote the issuer."""
    browser.open(f"http://{troubled.admin}/")
    browser.says(".banner.critical", "Requests fail")
    script = "return [...document.querySelectorAll('tbody')].map(row => [row.querySelector('code').innerText, {}])"
    rows = dict(browser.run(script.format("row.innerText")))
    assert list(rows)[-1] == "/good"
    assert "by the sidecar, request id" in rows["/down"]
    assert "unreachable" in rows["/down"]
    assert "100 % upstream" in rows["/errors"]
    assert "s own, request id" in rows["/errors"]
    dots = dict(browser.run(script.format("[...row.querySelectorAll('.dots li')].map(dot => dot.title)")))
    assert dots["/wrong"][1] == "token: the credential is refused"
    assert dots["/silent"][2] == "issuer: gives no token"
    assert dots["/down"][1:] == ["token: fresh", "issuer: answers", "upstream: unreachable"]
    browser.says("section[aria-label=Tokens] .critical .quote", "access_denied")
    browser.says(
        "section[aria-label=Issuers] .warning", "Left alone for", "1 token request in the last hour", "429", "cool-down"
    )
    browser.says("section[aria-label='Token store']", "Memory of this process", "Down", "Files of this host")
    browser.says("section[aria-label='Files of secrets that cannot be used']", "credentials.good.client_secret")
    browser.says(
        "section[aria-label='What happened']", "throttled a request (429)", "refused a token", "No connection to"
    )
    page = browser.run("return document.documentElement.outerHTML")
    assert SECRET not in page
    assert "token-1" not in page


def test_the_troubled_page_is_accessible(browser, troubled):
    """Red and amber are read as well as seen, and quietly by who listens; the console has no complaint."""
    browser.open(f"http://{troubled.admin}/")
    browser.says(".banner.critical", "Requests fail")
    check_accessible(browser)
    assert browser.complaints() == []


def test_draining_is_amber_and_the_end_is_grey(browser, healthy, tmp_path):
    """A drain is no failure; when the process is gone, the page says so and keeps what was last known."""
    with peer(says(200, b"ok")) as upstream:
        routes = {"api": {"upstream": upstream.url, "credential": "open"}}
        settings = configuration(tmp_path, "", routes, credentials={"open": {"type": "none"}}, drain_delay="60s")
        with running(tmp_path, settings) as sidecar:
            browser.open(f"http://{sidecar.admin}/")
            browser.says(".banner.good", "All is well")
            sidecar.signal(signal.SIGTERM)
            browser.says(".banner.warning", "The sidecar is draining", "It ends", "Nothing is to be done")
            assert browser.run("return document.title") == "▲ draining · camunda-sidecar"
            assert "c97800" in browser.run("return document.getElementById('icon').href")
            sidecar.signal(signal.SIGTERM)
            assert sidecar.ended() == 0
        browser.says(".banner.lost", "No answer from the sidecar", "What follows is what it last said")
        assert browser.run("return document.title") == "? camunda-sidecar"
        browser.says("section[aria-label=Routes]", "/api")
        check_accessible(browser)


def test_of_several_workers_it_shows_the_whole(browser, tmp_path):
    """Requests on connections that different workers have are added up, in the numbers and in the last hour."""
    with peer(says(200, b"ok")) as upstream:
        routes = {"api": {"upstream": upstream.url, "credential": "open"}}
        settings = configuration(tmp_path, "", routes, credentials={"open": {"type": "none"}})
        file = write(tmp_path / "config.yaml", settings)
        with ending(spawn("run", "--config", str(file), "--workers", "2")) as sidecar:
            sidecar.started()
            for _ in range(30):
                assert sidecar.ask("/api/x").status == 200
            browser.open(f"http://{sidecar.admin}/")
            browser.says(".banner", "All is well", "30 requests in the last five minutes")
            assert "2 of 2 workers" in browser.text("#about")


async def test_ten_thousand_series_do_not_slow_it(browser):
    """Of thousands of routes and tokens the ones in trouble are shown, and how many are not."""
    names = [f"route{number}" for number in range(5000)]
    made = {"upstream": "https://u.example", "credential": "c"}
    failing, failed_at = {"route4711": "upstream_timeout"}, 1_800_000_050.0
    routes = tuple(
        RouteStatus(name=n, prefix=f"/{n}", audience=n, failing=failing.get(n, ""), failed_at=failed_at, **made)
        for n in names
    )
    tokens = tuple(
        TokenStatus(credential="c", audience=n, state="fresh", detail="no" if n == "route4712" else "") for n in names
    )
    number = 1_800_000_060 // STEP
    frames = {number - k: [0, 1, 2, *([3] * 17)] for k in range(120)}
    events = [Event(1_800_000_000.0, "info", f"event {k}") for k in range(100)]
    recent = Recent(routes=dict.fromkeys(names[:128], frames), events=events)
    issuers = (IssuerStatus(issuer="https://i.example", min_interval=1.25),)
    async with serving(
        status=lambda: status(routes=routes, tokens=tokens, issuers=issuers), recent=lambda since: recent
    ) as running_server:
        address = running_server.address

        def look():
            browser.open(f"http://{address}/")
            browser.says("section[aria-label=Routes]", "4,900 more routes are not shown")
            browser.says("section[aria-label=Tokens]", "4,900 more tokens are not shown")
            script = "return [...document.querySelectorAll('tbody')].map(row => row.querySelector('code').innerText)"
            first = browser.run(script)
            assert first[:2] == ["/route4711", "/route4712"]
            assert len(first) == MOST_ROWS
            return browser.run("const began = performance.now(); show(); return performance.now() - began")

        assert await asyncio.to_thread(look) < 1000


async def test_an_hour_of_trouble(browser):
    """The README's pictures: each kind of token request has its line in the legend, and the past is told in words."""
    async with serving(status=lambda: told(troubled=True), recent=lambda _since: hour(troubled=True)) as running:

        def look():
            browser.open(f"http://{running.address}/")
            browser.says(
                "section[aria-label=Issuers] .legend", "token", "429", "refused", "cool-down", "limit, 48 a minute"
            )
            label = browser.run("return document.querySelector('svg.line[role=img]').getAttribute('aria-label')")
            assert "8 with a token, 1 throttled, 5 refused, 0 failed; 1 cool-down" in label
            browser.says("section[aria-label='What happened']", "Over after 6 min: issuer_cooling_down")
            check_accessible(browser)

        await asyncio.to_thread(look)


def test_the_pictures_are_shown_and_small():
    """Who reads the README sees the page; nobody waits for it."""
    files = sorted(IMAGES.glob("*.webp"))
    assert set(re.findall(r"docs/images/([\w-]+\.webp)", README.read_text())) == {f.name for f in files}
    assert max(file.stat().st_size for file in files) < 150_000


def test_nothing_that_is_told_becomes_markup():
    """The script writes text and attributes only, has no inline handler, and asks this sidecar alone."""
    page, policy = load_page()
    assert not re.search(rb"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|\son\w+=|style=", page)
    assert not re.search(rb"""(src|href)=["']?(https?:)?//""", page)
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert len(page) < 64 << 10
