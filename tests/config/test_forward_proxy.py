import pytest

from sidecar.config.describe import without_password
from sidecar.config.forward_proxy import is_exempt, proxy_for
from sidecar.config.report import BadValueError
from sidecar.config.urls import parse_base
from tests.config.support import MINIMAL, loaded, mistakes

PROXY = "http://proxy:3128"

COVERED = [
    ("https://h", "*", True),
    ("https://h", "", False),
    ("https://example.com", "example.com", True),
    ("https://example.com.", "example.com", True),
    ("https://a.example.com", "example.com", True),
    ("https://a.example.com", ".example.com", True),
    ("https://example.com", ".example.com", True),
    ("https://a.example.com", "*.example.com", True),
    ("https://badexample.com", "example.com", False),
    ("https://EXAMPLE.com", "Example.COM", True),
    ("https://h", "x, h", True),
    ("https://h", "x h", True),
    ("https://h:8443", "h:8443", True),
    ("https://h:8443", "h:443", False),
    ("https://h", "h:443", True),
    ("https://10.1.2.3", "10.0.0.0/8", True),
    ("https://11.1.2.3", "10.0.0.0/8", False),
    ("https://10.1.2.3", "10.1.2.3", True),
    ("https://10.1.2.3", "2.3", False),
    ("https://h", "10.0.0.0/8", False),
    ("https://h", "bad/net", False),
    ("https://[fd00::1]", "fd00::/8", True),
    ("https://[fd00::1]", "fd00::1", True),
    ("https://[fd00::1]:8443", "[fd00::1]:8443", True),
    ("https://[fd00::1]:8443", "[fd00::1]:443", False),
    ("https://127.0.0.1", "", True),
    ("https://localhost:8443", "", True),
    ("https://[::1]", "", True),
]


@pytest.mark.parametrize(("url", "no_proxy", "expected"), COVERED)
def test_no_proxy(url, no_proxy, expected):
    """NO_PROXY is read as curl and Go read it; loopback never goes through a proxy."""
    assert is_exempt(parse_base(url), no_proxy) is expected


CHOICES = [
    ("https://h", {}, None),
    ("https://h", {"HTTPS_PROXY": PROXY}, PROXY),
    ("https://h", {"https_proxy": PROXY, "HTTPS_PROXY": "http://other"}, PROXY),
    ("https://h", {"https_proxy": "", "HTTPS_PROXY": PROXY}, PROXY),
    ("https://h", {"HTTPS_PROXY": "proxy:3128"}, PROXY),
    ("https://h", {"HTTPS_PROXY": "http://u:p@proxy:3128/"}, "http://u:p@proxy:3128"),
    ("https://h", {"HTTPS_PROXY": PROXY, "NO_PROXY": "h"}, None),
    ("https://h", {"HTTPS_PROXY": PROXY, "no_proxy": "h", "NO_PROXY": "x"}, None),
    ("http://h", {"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY, "http_proxy": PROXY, "ALL_PROXY": PROXY}, None),
]


@pytest.mark.parametrize(("url", "environ", "expected"), CHOICES)
def test_which_proxy(url, environ, expected):
    """Https goes through HTTPS_PROXY; http never does, for the proxy would see the token."""
    assert proxy_for(parse_base(url), environ) == expected


@pytest.mark.parametrize(
    "text", ["socks5://p:1080", "https://p", "http://", "http://p:0", "http://p/path", "http://p:x", "p q"]
)
def test_what_is_no_proxy(text):
    """A proxy that cannot be used is refused, not silently left out."""
    with pytest.raises(BadValueError):
        proxy_for(parse_base("https://h"), {"HTTPS_PROXY": text})


def test_a_bad_proxy_is_one_mistake_with_the_variables_name(tmp_path):
    """Every route and issuer would meet it; it is said once, and its password is not shown."""
    found = mistakes(tmp_path, MINIMAL, HTTPS_PROXY="socks5://user:hunter2@proxy")
    assert list(found) == ["HTTPS_PROXY"]
    assert "hunter2" not in str(found)


def test_routes_and_issuers_know_their_proxy(tmp_path):
    """Both planes go through the proxy, and its password is in no repr."""
    settings = loaded(tmp_path, MINIMAL, HTTPS_PROXY="http://user:hunter2@proxy", NO_PROXY="api.example.com")
    assert settings.all_routes[0].proxy is None
    assert settings.credentials["cluster"].proxy == "http://user:hunter2@proxy"
    assert "hunter2" not in repr(settings)
    assert without_password("http://user:hunter2@proxy") == "http://***@proxy"
