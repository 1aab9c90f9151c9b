import pytest

from sidecar.config import scalars
from sidecar.config.report import BadValueError
from sidecar.config.settings import RequiredHeader, Rule
from tests.config.support import MINIMAL, loaded

DURATIONS = [
    ("1.1s", 1.1),
    ("500ms", 0.5),
    ("5m", 300),
    ("1h30m", 5400),
    ("2d", 172800),
    ("0", 0),
    ("0s", 0),
    ("1m0.5s", 60.5),
]


@pytest.mark.parametrize(("text", "seconds"), DURATIONS)
def test_durations(text, seconds):
    """Durations are seconds, whatever unit they are written in."""
    assert scalars.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "5 s", "-1s", "+1s", "1e3s", "inf", "nan", "1,5s", "5S", "s", ".5s", "1.s", "٣s"]
)
def test_what_is_no_duration(text):
    """A number without a unit could mean milliseconds; it is refused rather than guessed at."""
    with pytest.raises(BadValueError):
        scalars.parse_duration(text)


@pytest.mark.parametrize("seconds", [0, 0.25, 0.5, 1, 1.25, 5, 60, 90, 300, 5400, 3600, 86400])
def test_a_duration_is_shown_as_it_is_written(seconds):
    """What `check` shows could stand in the file."""
    assert scalars.parse_duration(scalars.show_duration(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "count"), [("64KiB", 65536), ("1MiB", 1 << 20), ("500", 500), ("10 kB", 10000), ("0", 0)]
)
def test_sizes(text, count):
    """Sizes are bytes."""
    assert scalars.parse_size(text) == count


@pytest.mark.parametrize("count", [0, 1, 500, 1024, 65536, 65537, 1 << 20, 3 << 30])
def test_a_size_is_shown_as_it_is_written(count):
    """What `check` shows could stand in the file."""
    assert scalars.parse_size(str(scalars.show_size(count))) == count


@pytest.mark.parametrize("text", ["", "-1", "64K", "64kib", "1.5MiB", "KiB", "0x10", "1_000"])
def test_what_is_no_size(text):
    """64K could be 64,000 or 65,536; it is refused rather than guessed at."""
    with pytest.raises(BadValueError):
        scalars.parse_size(text)


RULES = [
    ("GET /api/public/**", Rule("GET", "/api/public/**")),
    ("/api/*/x", Rule(None, "/api/*/x")),
    ("GET  /", Rule("GET", "/")),
    ("/**", Rule(None, "/**")),
    ("PATCH /a/*.json", Rule("PATCH", "/a/*.json")),
    ("POST /v2/jobs/:activate/", Rule("POST", "/v2/jobs/:activate/")),
]


@pytest.mark.parametrize(("text", "rule"), RULES)
def test_rules(tmp_path, text, rule):
    """A rule is a method, or none for all, and a pattern for the path after the prefix."""
    yaml = MINIMAL.replace("credential: cluster", f'credential: cluster, allow: ["{text}"], public: ["{text}"]')
    (route,) = loaded(tmp_path, yaml).routes.values()
    assert route.allow == route.public == (rule,)


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("X-Sidecar", RequiredHeader("X-Sidecar")),
        ("X-Sidecar: true", RequiredHeader("X-Sidecar", "true")),
        ("Metadata-Flavor:  a b", RequiredHeader("Metadata-Flavor", "a b")),
    ],
)
def test_a_required_header_has_a_name_and_perhaps_a_value(tmp_path, text, header):
    """`require_header` may ask for a value too, which is never shown."""
    settings = loaded(tmp_path, MINIMAL + f'guard: {{require_header: "{text}"}}')
    assert settings.guard.require_header == header
    assert header.value is None or header.value not in repr(settings)


@pytest.mark.parametrize("written", ["0123", "1e5", "yes", "2024-01-01", "0x1F", "1_000", "none", "1:30"])
def test_text_is_taken_as_it_is_written(tmp_path, written):
    """A secret that looks like a number, a date or a truth value is not changed into one."""
    assert loaded(tmp_path, MINIMAL.replace("s3cr3t", f'"{written}\\n"')) == loaded(
        tmp_path, MINIMAL.replace("s3cr3t", written)
    )
    settings = loaded(tmp_path, MINIMAL.replace("s3cr3t", written))
    assert settings.credentials["cluster"].client_secret.read().reveal() == written
