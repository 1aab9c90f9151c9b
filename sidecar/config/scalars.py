"""The kinds of single values: how each is read from its text, shown again, and described in the JSON Schema."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from sidecar.config import urls
from sidecar.config.report import BadValueError
from sidecar.config.values import NOWHERE, Address, RequiredHeader, Rule, TcpAddress, Upstream
from sidecar.secret import MASK, Secret, SecretSource

Role = Literal["value", "file", "directory", "secret", "pem"]
"""What `convert` does beyond reading the text: a file must be readable; a secret has a `_file` twin; PEM has lines."""


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """One kind of value."""

    parse: Callable[[str], object]
    """From the text. Raises BadValueError."""
    schema: Mapping[str, object] = field(default_factory=lambda: {"type": "string"})
    kind: str = "text"
    """What the reference calls it."""
    placeholder: object = ""
    """Stands for a required value that is missing or wrong while the rest is checked."""
    show: Callable[[Any], object] = str
    """Back to what is written in YAML."""
    role: Role = "value"
    is_quotable: bool = True
    """Whether a mistake may quote the text: no secret belongs to this kind, nor is it easily taken for one."""

    @property
    def is_secret(self) -> bool:
        """Whether it is a secret, which may stand in a file instead."""
        return self.role in {"secret", "pem"}


_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_SIZES = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1, "": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_PART = r"[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d)"
_DURATION = rf"0|(?:{_PART})+"
_SIZE = r"([0-9]{1,12})\s?(|B|KiB|MiB|GiB|kB|MB|GB)"
_LONGEST = 365 * 86400.0
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105 (RFC 9110, 5.6.2: what a field name or a method may be)
_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}"
_CHARACTER = r"(?:[A-Za-z0-9._~!$&'()+,;=:@-]|%[0-9A-Fa-f]{2})"
_SEGMENT = rf"(?:\*\*|\*?{_CHARACTER}+(?:\*{_CHARACTER}+)*\*?|\*)"
_RULE = rf"(?:{_TOKEN} +)?/(?:{_SEGMENT}(?:/{_SEGMENT})*/?)?"
# A wildcard stands for whole labels, below two more (`*.com` is everybody's), and for no address.
_WILDCARD = r"\*(?:\.[A-Za-z0-9_-]+)+\.[A-Za-z0-9-]*[A-Za-z][A-Za-z0-9-]*"
_HOST = rf"\[[0-9A-Fa-f:.]+\]|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+|[A-Za-z0-9_.-]+|{_WILDCARD}"
_REGION = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_PREFIX = r"/(?:[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*/?)?"


def parse_duration(text: str) -> float:
    """Return the seconds of `1.1s`, `500ms`, `5m` or `1h30m`."""
    if not re.fullmatch(_DURATION, text):
        raise BadValueError("is not a duration", "write a number with a unit, like 1.1s, 500ms or 5m")
    seconds = sum(float(part.rstrip("dhms")) * _UNITS[part.lstrip("0123456789.")] for part in re.findall(_PART, text))
    if seconds > _LONGEST:
        raise BadValueError("is longer than a year", "give a shorter one")
    return seconds


def show_duration(seconds: float) -> str:
    """Write seconds as a duration: `1.25s`, `5m`, `500ms`."""
    for name in ("d", "h", "m", "s"):
        if seconds >= _UNITS[name] and seconds % _UNITS[name] == 0:
            return f"{seconds / _UNITS[name]:.0f}{name}"
    return f"{seconds:g}s" if seconds >= 1 or seconds == 0 else f"{seconds * 1000:g}ms"


def parse_positive_duration(text: str) -> float:
    """Return the seconds of a duration that is not zero."""
    if (seconds := parse_duration(text)) <= 0:
        raise BadValueError("must be more than zero", "write it like 5s")
    return seconds


def parse_size(text: str) -> int:
    """Return the bytes of `64KiB`, `1MiB` or `500`."""
    if not (match := re.fullmatch(_SIZE, text)):
        raise BadValueError("is not a size", "write a number of bytes, or one with a unit, like 64KiB or 1MiB")
    return int(match[1]) * _SIZES[match[2]]


def show_size(count: int) -> str | int:
    """Write bytes as a size: `64KiB`, or a plain number."""
    for name in ("GiB", "MiB", "KiB"):
        if count >= _SIZES[name] and count % _SIZES[name] == 0:
            return f"{count // _SIZES[name]}{name}"
    return count


def parse_positive_size(text: str) -> int:
    """Return the bytes of a size that is not zero."""
    if not (size := parse_size(text)):
        raise BadValueError("must be more than zero", "write it like 64KiB")
    return size


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not int(text):
        raise BadValueError("is not a whole number over zero", "write it like 10000")
    return int(text)


def _share(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{0,12})?", text) or not 0 < float(text) < 1:
        raise BadValueError("is not a share between 0 and 1", "write it like 0.8")
    return float(text)


def _switch(text: str) -> bool:
    if text not in {"true", "True", "TRUE", "false", "False", "FALSE"}:
        raise BadValueError("is neither true nor false", "write true or false")
    return text.lower() == "true"


def _text(text: str) -> str:
    if not text.strip():
        raise BadValueError("is empty", "give it a value, or leave the key out")
    if not text.isprintable() or text != text.strip():
        raise BadValueError("has a character in it, or a space at an end, that cannot be seen", "remove it")
    return text


def _secret(text: str) -> Secret:
    # As in a secret file: `echo` adds a line break, also on its way through an environment variable.
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise BadValueError("is empty", "give the secret, or the file that has it")
    return Secret(text)


def _file(text: str) -> Path:
    if not text or "\0" in text:
        raise BadValueError("is not a file's path", "write it like /run/secrets/name")
    return Path(text)


def _rule(text: str) -> Rule:
    method, _, pattern = text.rpartition(" ")
    if not re.fullmatch(_RULE, text):
        if re.search(r"[^/]\*\*|\*\*[^/]", pattern):
            raise BadValueError("has a ** that is not a whole segment", "* is one segment and ** any number: /api/*/**")
        raise BadValueError("is not a rule", "write it like GET /api/public/** or /api/**, without a query")
    if any(segment in {".", ".."} for segment in pattern.split("/")):
        raise BadValueError("has a . or .. segment", "write the path that is meant")
    if (method := method.strip()) != method.upper():
        raise BadValueError("has a method in lower case", "write methods in capitals, like GET")
    return Rule(method or None, pattern)


def _prefix(text: str) -> str:
    if not re.fullmatch(_PREFIX, text) or any(segment in {".", ".."} for segment in text.split("/")):
        raise BadValueError("is not a path prefix", "write it like /operate; / alone takes everything")
    return text.rstrip("/") or "/"


def _header(text: str) -> RequiredHeader:
    name, colon, value = text.partition(":")
    if not re.fullmatch(_TOKEN, name):
        raise BadValueError("is not a header's name", "write it like X-Sidecar or X-Sidecar: value")
    if not colon:
        return RequiredHeader(name)
    if not (value := value.strip()) or not all(" " <= character <= "~" for character in value):
        raise BadValueError("has no valid value after the colon", "write printable ASCII, or leave the colon out")
    return RequiredHeader(name, value)


def _host(text: str) -> str:
    if "$" in text:
        raise BadValueError("refers to a variable in a way that is not expanded", "write ${NAME} for a variable NAME")
    if not re.fullmatch(_HOST, text) or (":" in text and not urls.is_ipv6(text.strip("[]"))):
        cure = "write it like sidecar.internal or *.svc.cluster.local, without a port"
        raise BadValueError("is not a host name", cure)
    return f"[{text.strip('[]')}]".lower() if ":" in text else text.lower()


def _subject(text: str) -> str:
    from cryptography import x509  # noqa: PLC0415 (few configurations have one)

    with contextlib.suppress(ValueError):
        if subject := x509.Name.from_rfc4514_string(text).rfc4514_string():
            return subject
    raise BadValueError("is not a certificate's subject", "write it like CN=reports,O=Example")


def _redis_url(text: str) -> Secret:
    if not re.fullmatch(r"(rediss?://(?:[^\s@/]*@)?[^\s@/]+(?:/\S*)?|unix://\S+)", text):
        raise BadValueError("is not a Redis URL", "write it like redis://host:6379/0, rediss:// for TLS")
    return Secret(text)


def _masked(header: RequiredHeader) -> str:
    return header.name if header.value is None else f"{header.name}: {MASK}"


def _schema(pattern: str, *examples: object) -> dict[str, object]:
    return {"type": "string", "pattern": f"^(?:{pattern})$", "examples": list(examples)}


_TEXT: dict[str, object] = {"type": ["string", "number", "boolean"]}
_DURATION_SCHEMA = {"anyOf": [_schema(_DURATION, "1.1s", "500ms", "5m"), {"const": 0}]}
_SIZE_SCHEMA = {"anyOf": [_schema(_SIZE, "64KiB"), {"type": "integer", "minimum": 0}]}
_URL = r"https?://[^\s?#@]+"


def _duration(parse: Callable[[str], float]) -> Scalar:
    return Scalar(parse, _DURATION_SCHEMA, "duration", show=show_duration)


def _bytes(parse: Callable[[str], int]) -> Scalar:
    return Scalar(parse, _SIZE_SCHEMA, "size", show=show_size)


def _path(role: Role) -> Scalar:
    return Scalar(_file, {"type": "string", "minLength": 1}, "file", role=role, is_quotable=False)


def _url(
    parse: Callable[[str], object], pattern: str, *examples: str, placeholder: object = "https://invalid"
) -> Scalar:
    return Scalar(parse, _schema(pattern, *examples), "URL", placeholder)


def _hidden(role: Role, parse: Callable[[str], object] = _secret, schema: Mapping[str, object] = _TEXT) -> Scalar:
    return Scalar(parse, schema, "secret", SecretSource(), show=lambda _: MASK, role=role, is_quotable=False)


FILE = _path("file")


def _word(pattern: str, complaint: str, cure: str, *examples: str, kind: str = "text") -> Scalar:
    """Return the kind of a text that matches a pattern."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise BadValueError(complaint, cure)
        return text

    return Scalar(parse, _schema(pattern, *examples), kind, "invalid")


Text = Annotated[str, Scalar(_text, _TEXT, is_quotable=False)]
Subject = Annotated[str, Scalar(_subject, _schema(r".*=.*", "CN=reports"), is_quotable=False)]
HiddenText = Annotated[str, Scalar(str, _TEXT, show=lambda _: MASK, is_quotable=False)]
SecretText = Annotated[SecretSource, _hidden("secret")]
PemText = Annotated[SecretSource, _hidden("pem")]
RedisUrl = Annotated[
    SecretSource, _hidden("secret", _redis_url, _schema(r"(?:rediss?|unix)://\S+", "redis://redis:6379/0"))
]
FilePath = Annotated[Path, FILE]
DirectoryPath = Annotated[Path, _path("directory")]
Duration = Annotated[float, _duration(parse_duration)]
Timeout = Annotated[float, _duration(parse_positive_duration)]
Size = Annotated[int, _bytes(parse_size)]
PositiveSize = Annotated[int, _bytes(parse_positive_size)]
Count = Annotated[int, Scalar(_count, {"type": "integer", "minimum": 1}, "number", show=int)]
Share = Annotated[
    float, Scalar(_share, {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, "number", show=float)
]
Switch = Annotated[bool, Scalar(_switch, {"type": "boolean"}, "true, false", show=bool)]
Listen = Annotated[Address, Scalar(urls.parse_listen, _schema(r"unix:/.+|\S+:[0-9]{1,5}", "127.0.0.1:8600"), "address")]
TcpListen = Annotated[TcpAddress, Scalar(urls.parse_tcp, _schema(r"\S+:[0-9]{1,5}", "127.0.0.1:26500"), "address")]
GrpcUrl = Annotated[
    Upstream,
    _url(urls.parse_grpc, r"(?:(?:https?|grpcs?)://)?[^\s/?#@]+/?", "https://zeebe:26500", placeholder=NOWHERE),
]
BaseUrl = Annotated[Upstream, _url(urls.parse_base, _URL, "https://bru-2.operate.camunda.io/id", placeholder=NOWHERE)]
TokenUrl = Annotated[str, _url(urls.parse_endpoint, r"https?://[^\s#@]+")]
LoginUrl = Annotated[str, _url(lambda text: urls.parse_endpoint(text, query=False), _URL)]
Origin = Annotated[str, _url(urls.parse_origin, r"https?://[^\s/?#@]+/?", "http://keycloak:18080")]
RuleText = Annotated[Rule, Scalar(_rule, _schema(_RULE, "GET /api/public/**"), "rule")]
Prefix = Annotated[str, Scalar(_prefix, _schema(_PREFIX, "/operate"), "path")]
Header = Annotated[
    RequiredHeader,
    Scalar(_header, _schema(rf"{_TOKEN}(?::.+)?", "X-Sidecar"), "header", show=_masked, is_quotable=False),
]
Host = Annotated[str, Scalar(_host, _schema(_HOST, "sidecar.internal"), "host")]
Name = Annotated[str, _word(_NAME, "is not a valid name", "use letters, digits, - and _", kind="name")]
Region = Annotated[str, _word(_REGION, "is not a region", "write it like bru-2, as the Console shows it", "bru-2")]
ClusterId = Annotated[str, _word(r"[A-Za-z0-9-]+", "is not a cluster id", "copy it from the Console; it is a UUID")]
