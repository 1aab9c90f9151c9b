"""The Compose file in deploy/compose: its parts fit together, and its configuration is valid."""

import re

import yaml

from sidecar.config import load
from tests.deploy.support import DEPLOY

FOLDER = DEPLOY / "compose"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
SIDECARS = [name for name, service in SERVICES.items() if service["image"] == "camunda-sidecar"]


def test_two_sidecars_share_one_store():
    """Two hosts behind one address, in small: the same configuration, one Valkey."""
    assert SIDECARS == ["first", "second"]
    first, second = (SERVICES[name] | {"ports": None} for name in SIDECARS)
    assert first == second


def test_everything_that_a_service_names_is_there():
    """Configs, secrets, networks, services."""
    for service in SERVICES.values():
        assert {each["source"] for each in service.get("configs", [])} <= COMPOSE["configs"].keys()
        assert {*service["secrets"]} <= COMPOSE["secrets"].keys()
        assert {*service["networks"]} <= COMPOSE["networks"].keys()
        assert service.get("depends_on", {}).keys() <= SERVICES.keys()
    assert (FOLDER / COMPOSE["configs"]["sidecar"]["file"]).exists()


def test_nobody_else_comes_in():
    """The sidecars' ports are this host's loopback's; Valkey has none, and reaches nothing."""
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert (service["cap_drop"], service["read_only"]) == (["ALL"], True)
        assert ("ports" in service) is (name in SIDECARS)
    assert SERVICES["valkey"]["networks"] == ["store"]
    assert COMPOSE["networks"]["store"]["internal"] is True


def test_no_secret_is_in_the_environment_or_on_a_command_line():
    """Both are shown by `docker inspect`, and a command line by `ps`: secrets are files, and Valkey reads its own."""
    assert [name for name in SIDECARS if "SECRET" in str(SERVICES[name]["environment"])] == []
    assert "--requirepass" not in str(SERVICES["valkey"]["command"])


def test_the_configuration_is_valid(tmp_path):
    """With the secrets that Compose mounts and the variable that it sets."""
    text = (FOLDER / "config.yaml").read_text()
    for name in set(re.findall(r"/run/secrets/([\w-]+)", text)):
        assert name in SERVICES["first"]["secrets"]
        (tmp_path / name).write_text("redis://:a@valkey:6379/0" if name == "valkey-url" else "secret")
    (tmp_path / "config.yaml").write_text(text.replace("/run/secrets", str(tmp_path)))
    settings = load(tmp_path / "config.yaml", {"ZEEBE_CLIENT_ID": "me"})
    assert [warning.path for warning in settings.warnings] == ["listen"]  # Compose alone keeps others out
    ports = {str(settings.listen).partition(":")[2], str(settings.admin.listen).partition(":")[2]}
    assert {port.rpartition(":")[2] for port in SERVICES["first"]["ports"]} == ports


def test_a_stop_has_its_time():
    """`docker compose stop` kills nothing that still drains."""
    assert SERVICES["first"]["stop_grace_period"] == "35s"
