import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.report import BadValueError
from sidecar.config.yaml_file import expand

ENVIRON = {"NAME": "value", "EMPTY": "", "NESTED": "${NAME}"}

TABLE = [
    ("plain", "plain"),
    ("${NAME}", "value"),
    ("a-${NAME}-b-${NAME}", "a-value-b-value"),
    ("${UNSET:-default}", "default"),
    ("${EMPTY:-default}", "default"),
    ("${EMPTY}", ""),
    ("${UNSET:-}", ""),
    ("${NAME:-default}", "value"),
    ("${UNSET:-a:-b/c}", "a:-b/c"),
    ("$${NAME}", "${NAME}"),
    ("$$${NAME}", "$${NAME}"),
    ("$NAME $ $$ {NAME}", "$NAME $ $$ {NAME}"),
    ("${NESTED}", "${NAME}"),
]


@pytest.mark.parametrize(("text", "expected"), TABLE)
def test_references(text, expected):
    """References are replaced once; `$${` is a literal `${`."""
    assert expand(text, ENVIRON) == expected


@pytest.mark.parametrize(
    "text", ["${UNSET}", "${}", "${NAME", "${1A}", "${NA ME}", "${NAME-default}", "a${", "${NAME:default}"]
)
def test_malformed_and_unset_references_are_mistakes(text):
    """Nothing is replaced by nothing in silence."""
    with pytest.raises(BadValueError):
        expand(text, ENVIRON)


@given(st.text())
def test_any_text_can_be_written_literally(text):
    """With `${` doubled, every text means itself."""
    assert expand(text.replace("${", "$${"), {}) == text
