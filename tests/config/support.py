import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sidecar.config import load
from sidecar.config.settings import Settings
from sidecar.config.shape import keys_of
from sidecar.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.yaml"
ENVIRON = {"HOME": "/home/user"}
CLUSTER = (
    "credentials: {cluster: {type: client_credentials, token_url: 'https://issuer.example.com/token', client_id: id,"
    " client_secret: s3cr3t}}\n"
)
ROUTE = "routes: {api: {upstream: 'https://api.example.com', credential: cluster}}\n"
MINIMAL = CLUSTER + ROUTE


def written(directory: Path, text: str, name: str = "config.yaml") -> Path:
    file = directory / name
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return file


def loaded(directory: Path, text: str, **environ: str) -> Settings:
    return load(written(directory, text), ENVIRON | environ)


def mistakes(directory: Path, text: str, **environ: str) -> dict[str, str]:
    """Each mistake's message and cure by its path; none where it loads."""
    try:
        loaded(directory, text, **environ)
    except ConfigurationError as error:
        return {each.path: f"{each.message} ({each.cure})" for each in error.mistakes}
    return {}


def all_keys(struct: type[msgspec.Struct] = Settings) -> Iterator[str]:
    for key in keys_of(struct):
        yield key.name
        for part in (key.shape.value or key.shape).structs:
            yield from all_keys(part)


def uncommented(text: str) -> str:
    """The example with its further possibilities: `#key` without a space after the mark."""
    return re.sub(r"^( *)#(?=[a-z])", r"\1", text, flags=re.MULTILINE)


def with_secret_files(text: str, directory: Path) -> str:
    """The text with /run/secrets moved to `directory`, and every file there made."""
    for name in re.findall(r"/run/secrets/([\w./-]*\w)", text):
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("redis://redis:6379\n" if name == "redis" else "s3cr3t\n")
    return text.replace("/run/secrets", str(directory))
