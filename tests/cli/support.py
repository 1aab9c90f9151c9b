import os
from pathlib import Path

from click.testing import CliRunner, Result

from sidecar.cli import main

CONFIG = """
saas: {region: bru-2, cluster_id: abc}
credentials: {cluster: {type: client_credentials, client_id: id, client_secret: s3cr3t}}
routes:
  operate: {credential: cluster}
  optimize: {credential: cluster, allow: [GET /api/public/**]}
  docs: {upstream: "https://docs.example.com/base", credential: cluster, prefix: /docs, audience: null}
"""


def camunda_sidecar(*arguments: object, environ: dict[str, str] | None = None, stdin: bytes | None = None) -> Result:
    """Run a command in this process, with nothing of Camunda's in the environment but `environ`."""
    unset = dict.fromkeys((name for name in os.environ if name.startswith(("CAMUNDA_", "ZEEBE_"))), None)
    return CliRunner().invoke(
        main, [str(argument) for argument in arguments], env={**unset, **(environ or {})}, input=stdin
    )


def configuration(directory: Path, text: str = CONFIG) -> Path:
    file = directory / "config.yaml"
    file.write_text(text)
    return file
