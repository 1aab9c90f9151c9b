import base64
import json

import aiohttp
import pytest

from sidecar.demo.standin import ENDPOINTS, StandIn
from tests.telemetry.support import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def standin(clock):
    running = StandIn(0.0, clock)
    await running.start()
    yield running
    await running.close()


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


def fields(client, audience="operate.camunda.io", **changes):
    given = {
        "grant_type": "client_credentials",
        "client_id": client.client_id,
        "client_secret": client.secret,
        "audience": audience,
    }
    return {name: value for name, value in {**given, **changes}.items() if value is not None}


async def token(http, standin, audience="operate.camunda.io", client=None):
    async with http.post(standin.token_url, data=fields(client or standin.cluster_client, audience)) as answer:
        return (await answer.json())["access_token"]


async def ask(http, method, url, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with http.request(method, url, headers=headers) as answer:
        return answer.status


async def test_a_token_is_granted(http, standin, clock):
    """The token looks like a JWT and says its life."""
    async with http.post(standin.token_url, data=fields(standin.cluster_client)) as answer:
        body = await answer.json()
    claims = json.loads(base64.urlsafe_b64decode(body["access_token"].split(".")[1] + "=="))
    assert (answer.status, body["token_type"], body["expires_in"]) == (200, "Bearer", 3600)
    assert (claims["aud"], claims["iat"], claims["exp"]) == ("operate.camunda.io", clock.now, clock.now + 3600)


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "access_denied"),
        ({"client_id": "nobody"}, 401, "access_denied"),
        ({"client_secret": None}, 401, "access_denied"),
        ({"audience": "api.cloud.camunda.io"}, 403, "access_denied"),
        ({"audience": None}, 403, "access_denied"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
async def test_the_issuer_refuses_as_auth0_does(http, standin, changes, status, error):
    """A wrong secret is 401 access_denied, somebody else's audience 403; each is counted as refused."""
    async with http.post(standin.token_url, data=fields(standin.cluster_client, **changes)) as answer:
        body = await answer.json()
    assert (answer.status, body["error"]) == (status, error)
    assert (len(standin.token_requests), standin.refused()) == (1, 1)


async def test_one_request_a_second_failures_counted(http, clock):
    """The limit is Camunda SaaS's: a refused request uses the second up too, and 429 says for how long."""
    standin = StandIn(clock=clock)
    await standin.start()
    said = []
    for moment, secret in ((0.0, "wrong"), (0.5, None), (1.0, None), (1.2, None)):
        clock.now = 1_800_000_000.0 + moment
        sent = fields(standin.cluster_client, **({"client_secret": secret} if secret else {}))
        async with http.post(standin.token_url, data=sent) as answer:
            said.append((answer.status, answer.headers.get("Retry-After")))
    await standin.close()
    assert said == [(401, None), (429, "1"), (200, None), (429, "1")]
    assert [request.outcome for request in standin.token_requests] == ["refused", "throttled", "granted", "throttled"]


@pytest.mark.parametrize("product", ENDPOINTS)
async def test_every_endpoint_wants_its_own_audiences_token(http, standin, product):
    """Each API answers with the right token, and 401 without one and with another audience's."""
    is_organization = product in {"console", "hub", "modeler"}
    client = standin.organization_client if is_organization else standin.cluster_client
    audience = "api.cloud.camunda.io" if is_organization else f"{product}.camunda.io"
    other = ("operate.camunda.io" if is_organization or product != "operate" else "optimize.camunda.io")  # fmt: skip
    right = await token(http, standin, audience, client)
    wrong = await token(http, standin, other)
    for endpoint, answer in ENDPOINTS[product].items():
        method, path = endpoint.split()
        url = standin.upstream(product) + path.format(key=1, id=1, uuid=1)
        codes = [await ask(http, method, url, sent) for sent in (right, wrong, None, right[:-1])]
        assert codes == [204 if answer is None else 200, 401, 401, 401], path
    served = sum(count for (name, code), count in standin.answers.items() if name == product and code < 400)
    assert served == len(ENDPOINTS[product])


async def test_an_unknown_path_is_401_without_a_token_and_404_with_one(http, standin):
    """What exists is nobody's business without a token."""
    url = standin.upstream("operate") + "/v1/nothing"
    assert await ask(http, "GET", url) == 401
    assert await ask(http, "GET", url, await token(http, standin)) == 404


async def test_optimizes_readiness_refuses_credentials(http, standin):
    """`GET /api/readyz` is public, and an Authorization header there is an error, an empty one too."""
    url = standin.upstream("optimize") + "/api/readyz"
    assert await ask(http, "GET", url) == 200
    assert await ask(http, "GET", url, "anything") == 400
    async with http.get(url, headers={"Authorization": ""}) as answer:
        assert answer.status == 400


async def test_a_token_is_good_until_its_end(http, standin, clock):
    """A token serves up to its `exp`, and not a second longer."""
    url = standin.upstream("console") + "/clusters"
    sent = await token(http, standin, "api.cloud.camunda.io", standin.organization_client)
    clock.now += 3599
    assert await ask(http, "GET", url, sent) == 200
    clock.now += 1
    assert await ask(http, "GET", url, sent) == 401


async def test_a_taken_port_is_an_error(standin):
    """The demo tries its friendly port first, and must hear that it is taken."""
    other = StandIn()
    with pytest.raises(OSError, match="in use"):
        await other.start(port=int(standin.url.rpartition(":")[2]))
    await other.close()
