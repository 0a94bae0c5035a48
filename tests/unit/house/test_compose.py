"""docker-compose.yaml: valid by the Compose specification, no default secret, nothing published beyond loopback."""

import json
import re
from pathlib import Path

import check_jsonschema
import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
SPEC = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
TEXT = (ROOT / "docker-compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
AIRFLOW = {name: s for name, s in SERVICES.items() if name.startswith("airflow-")}


def environment(service: str) -> dict[str, str]:
    return SERVICES[service].get("environment", {})


def test_it_is_valid_by_the_compose_specification():
    schema = json.loads(SPEC.read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(COMPOSE)


def test_the_production_parts_are_all_there():
    assert set(SERVICES) == {
        "postgres",
        "redis",
        "airflow-init",
        "airflow-apiserver",
        "airflow-scheduler",
        "airflow-dag-processor",
        "airflow-triggerer",
        "airflow-worker",
    }
    assert all("healthcheck" in s for name, s in SERVICES.items() if name != "airflow-init")


def test_every_port_is_published_on_loopback_only():
    published = [port for s in SERVICES.values() for port in s.get("ports", [])]
    assert published
    assert all(str(port).startswith("127.0.0.1:") for port in published)
    assert COMPOSE["networks"]["inner"]["internal"] is True


SECRET = re.compile(r"PASSWORD|SECRET|FERNET|SQL_ALCHEMY_CONN|BROKER_URL|RESULT_BACKEND|CONN_TIEOUT_STORE")


@pytest.mark.parametrize("service", SERVICES)
def test_every_secret_must_come_from_the_environment(service):
    for key, value in environment(service).items():
        if SECRET.search(key):
            assert re.search(r"\$\{[A-Z_]+:\?", str(value)), f"{service}: {key} has a value or a default of its own"


def test_the_example_environment_names_every_required_variable_and_gives_none():
    required = set(re.findall(r"\$\{([A-Z_]+):\?", TEXT))
    lines = [x for x in (ROOT / ".env.example").read_text().splitlines() if x and not x.startswith("#")]
    assert {x.partition("=")[0] for x in lines} == required
    assert all(x.endswith("=") for x in lines)


def test_workers_have_neither_the_metadata_database_nor_the_signing_key():
    keys = set(environment("airflow-worker"))
    assert not {k for k in keys if "SQL_ALCHEMY_CONN" in k or "JWT_SECRET" in k or "FERNET" in k}


@pytest.mark.parametrize("service", AIRFLOW)
def test_code_is_mounted_read_only_and_importable(service):
    volumes = AIRFLOW[service]["volumes"]
    assert {"./dags:/opt/airflow/dags:ro", "./plugins:/opt/airflow/plugins:ro", "./include:/opt/tieout/include:ro"} <= {
        *volumes
    }
    assert AIRFLOW[service]["user"] == "50000:0"


def test_the_image_installs_the_mounted_package_in_place():
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    assert "-e /opt/tieout" in dockerfile
    airflow = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements.txt").read_text(), re.M)[1]
    assert f"apache/airflow:{airflow}-python3.12" in dockerfile


def commands(service: str) -> str:
    held = SERVICES[service]
    return json.dumps([held.get("command"), held.get("entrypoint"), held.get("healthcheck", {}).get("test")])


@pytest.mark.parametrize("service", SERVICES)
def test_no_secret_is_an_argument_of_a_process(service):
    text = commands(service)
    assert "${" not in text.replace("$${", "")  # Compose would put the value itself into the argument
    assert not re.search(r"--(password|user-password)|requirepass \$\$|-a \$\$|://[^\"]*\$\$", text)


def test_the_script_that_makes_the_databases_gives_psql_no_password_as_an_argument():
    script = (ROOT / "docker" / "create-databases.sh").read_text()
    (call,) = (line for line in script.splitlines() if line.startswith("psql"))
    assert "PASSWORD" not in call
    assert {"\\getenv airflow_password AIRFLOW_DB_PASSWORD", "\\getenv tieout_password TIEOUT_DB_PASSWORD"} <= {
        *script.splitlines()
    }


@pytest.mark.parametrize("service", SERVICES)
def test_no_container_runs_as_root_or_may_become_more_than_it_is(service):
    held = SERVICES[service]
    assert str(held["user"]).split(":")[0] not in ("0", "root")
    assert held["cap_drop"] == ["ALL"]
    assert held["security_opt"] == ["no-new-privileges:true"]
    assert not held.get("privileged")
    assert not any("docker.sock" in str(volume) for volume in held["volumes"])


@pytest.mark.parametrize("service", SERVICES)
def test_what_comes_from_the_host_is_mounted_read_only(service):
    own = [str(volume) for volume in SERVICES[service]["volumes"] if str(volume).startswith((".", "/", "${"))]
    assert all(volume.endswith(":ro") for volume in own)


@pytest.mark.parametrize("service", ["postgres", "redis"])
def test_a_server_can_write_to_its_volume_alone(service):
    assert SERVICES[service]["read_only"] is True
