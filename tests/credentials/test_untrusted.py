"""What a server says may stand in a log: never a secret in any spelling, never anything but plain text."""

from __future__ import annotations

import base64
import html
import json
import time
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.credentials import untrusted

SECRET = 'S3cr3t/+=& "\\é~ü<>%41ñ🔑.tail'


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


SPELLINGS = {
    "plain": SECRET,
    "shouted": SECRET.upper(),
    "form": quote_plus(SECRET),
    "form in a body": urlencode({"client_secret": SECRET, "x": "y"}),
    "%20": quote(SECRET, safe=""),
    "lower hex": quote(SECRET, safe="").replace("%C3%A9", "%c3%a9").replace("%2F", "%2f"),
    "as JavaScript encodes": quote(SECRET, safe="!'()*~"),
    "all encoded": "".join(f"%{byte:02X}" for byte in SECRET.encode()),
    "latin-1": quote(SECRET.encode("latin-1", "replace"), safe=""),
    "JSON": json.dumps(SECRET),
    "JSON without escapes": json.dumps(SECRET, ensure_ascii=False),
    "JSON as PHP writes it": json.dumps(SECRET).replace("/", "\\/"),
    "JSON in JSON": json.dumps(json.dumps(SECRET)),
    "form in JSON in JSON": json.dumps(json.dumps(quote_plus(SECRET))),
    "form of a form": quote_plus(quote_plus(SECRET)),
    "HTML": html.escape(SECRET),
    "HTML by number": "".join(f"&#{ord(character)};" for character in SECRET),
    "HTML in hexadecimal": "".join(f"&#x{ord(character):X};" for character in SECRET),
    "as latin-1 misread": SECRET.encode().decode("latin-1"),
    "what is not ASCII lost": SECRET.encode("ascii", "replace").decode(),
    "Basic": basic("the-client", SECRET),
    "Basic of the encoded pair": basic(quote_plus("the-client"), quote_plus(SECRET)),
    "Basic of another id": basic("x", SECRET),
    "base64url": base64.urlsafe_b64encode(f"id:{SECRET}".encode()).decode(),
    "base64 of the body": base64.b64encode(urlencode({"client_secret": SECRET}).encode()).decode(),
    "Basic, form-encoded": quote_plus(basic("the-client", SECRET)),
}


def shown(spelling: str) -> list[str]:
    """The runs of eight characters of a spelling that are left in what is shown of a sentence around it."""
    text = untrusted.mask(f"Invalid credentials: {spelling} were refused", [SECRET])
    assert text.startswith("Invalid credentials: ")
    assert "***" in text
    return [part for at in range(len(SECRET) - 7) if (part := SECRET[at : at + 8]) in text]


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_secret_is_masked_in_every_spelling(name: str) -> None:
    """As it was sent, as servers write what they were sent, and as they write it wrongly."""
    assert shown(SPELLINGS[name]) == []
    text = untrusted.quote(f"said: {SPELLINGS[name]}", 300, [SECRET])
    for piece in ("s3cr3t", "S3cr3t", "tail", base64.b64encode(b"S3cr3t/+=")[:8].decode()):
        assert piece not in text


@pytest.mark.parametrize("name", ["plain", "form", "JSON", "all encoded", "Basic"])
def test_a_secret_that_is_cut_anywhere_is_masked(name: str) -> None:
    """By the server or by us: seven characters at most are left of it."""
    spelling = SPELLINGS[name]
    for cut in range(len(spelling)):
        for part in (spelling[cut:], spelling[:cut]):
            text = untrusted.mask(part, [SECRET])
            if "Basic" not in name:
                assert not any(SECRET[at : at + 8] in text for at in range(len(SECRET) - 7)), part


def test_a_secret_across_the_limit_is_masked_before_the_text_is_cut() -> None:
    """Neither end of the cut shows a beginning of it."""
    for before in range(270, 301):
        assert "S3c" not in untrusted.quote("x" * before + SECRET, 300, [SECRET])
    assert "S3cr3t/+" not in untrusted.quote(" " * (untrusted.LONGEST - 9) + SECRET, 300, [SECRET])


@pytest.mark.parametrize("secret", ["abc", "demo", "1234567"])
def test_a_short_secret_is_masked_as_a_whole(secret: str) -> None:
    """There is no part of it to look for."""
    assert untrusted.quote(f"user demo2, password={secret}", 99, [secret]).endswith("password=***")


def test_ordinary_sentences_stay_as_they_are() -> None:
    """What has only words in common with a secret is readable."""
    said = 'Client is not authorized to access "optimize.camunda.io": wrong client or secret (AADSTS7000215).'
    assert untrusted.quote(said, 300, ["the-client-secret-of-operate"]) == said


def test_a_jwt_is_masked_whosever_it_is() -> None:
    """A signed assertion, a token; whole or cut."""
    said = "bad eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhIn0.c2ln and eyJhbGciOiJSUzI1NiJ9.eyJp"
    assert untrusted.quote(said, 300) == "bad *** and ***"


@pytest.mark.parametrize(
    "nasty", ["\x1b[2J", "\r\nlevel=error", "\u202egnirts", "\x00", "\u2066x\u2069", "\x9b31m", "\udce9"]
)
def test_what_is_shown_is_one_line_of_printable_ascii(nasty: str) -> None:
    """No control character, terminal sequence, reordering of text, or new line."""
    text = untrusted.quote(f"a{nasty}b", 300)
    assert text.isascii()
    assert text.isprintable()


def test_texts_are_cut() -> None:
    """A server does not decide how long a log line is."""
    assert untrusted.quote("x" * 500, 10) == "xxxxxxx..."
    assert untrusted.quote("\x00" * 100_000, 10) == ""


@given(st.text(), st.lists(st.text(), max_size=3))
def test_nothing_raises_and_no_secret_survives(text: str, secrets: list[str]) -> None:
    """Whatever the text and the secrets are."""
    shown = untrusted.mask(text, secrets)
    assert not [secret for secret in secrets if len(secret) > 3 and "*" not in secret and secret in shown]
    assert len(untrusted.quote(text, 50, secrets)) <= 50


def test_a_long_text_of_escapes_costs_little() -> None:
    """It is done in the event loop."""
    began = time.process_time()
    untrusted.quote("%25" * 100_000, 300, [SECRET, "x" * 2000])
    assert time.process_time() - began < 0.5
