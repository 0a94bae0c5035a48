import json

import pytest

from tieout.entities import load_entities
from tieout.errors import ConfigError, SourceError, TieoutError
from tieout.observe import redact
from tieout.settings import SHIPPED_CONFIG, Connection, Settings


def test_a_configured_file_wins_over_the_shipped_one(tmp_path):
    (tmp_path / "entities.yaml").write_text("entities: []\n")
    settings = Settings.from_env({"TIEOUT_CONFIG": str(tmp_path), "TIEOUT_HOME": str(tmp_path)})
    assert settings.config_file("entities.yaml") == tmp_path / "entities.yaml"
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        settings.config_file("nowhere.yaml")


def test_the_store_defaults_to_sqlite_under_home_and_follows_its_connection(tmp_path):
    assert Settings.from_env({"TIEOUT_HOME": str(tmp_path)}).store == f"sqlite:///{tmp_path}/store.sqlite"
    conn = json.dumps({"conn_type": "postgres", "host": "db", "login": "t", "password": "p@ss", "schema": "tieout"})
    url = Settings.from_env({"AIRFLOW_CONN_TIEOUT_STORE": conn}).store
    assert url == "postgresql+psycopg://t:p%40ss@db/tieout"


def test_an_engine_that_is_not_there_is_refused():
    assert Settings.from_env({"TIEOUT_ENGINE": "duckdb"}).engine == "duckdb"
    for other in ("hadoop", ""):
        with pytest.raises(ConfigError, match="TIEOUT_ENGINE"):
            Settings.from_env({"TIEOUT_ENGINE": other})


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, "Spark needs one cluster.*got: none"),
        ({"MASTER": "spark://h:7077", "CONNECTION": "spark_default"}, "Spark needs one cluster.*got: two"),
        ({"MASTER": "http://h:7077"}, "no address of a Spark cluster.*got: http://h:7077"),
        ({"MASTER": "yarn", "FROM_ROWS": "many"}, "not a whole number.*TIEOUT_SPARK_FROM_ROWS.*got: many"),
    ],
)
def test_a_cluster_that_cannot_be_meant_is_refused(more, says):
    with pytest.raises(ConfigError, match=says):
        Settings.from_env({"TIEOUT_ENGINE": "spark"} | {f"TIEOUT_SPARK_{name}": text for name, text in more.items()})


def test_auto_takes_spark_from_the_configured_number_of_events_on():
    few = {"TIEOUT_SPARK_MASTER": "spark://h:7077", "TIEOUT_SPARK_FROM_ROWS": "1000"}
    auto = Settings.from_env({"TIEOUT_ENGINE": "auto"} | few)
    assert [auto.engine_for(rows) for rows in (999, 1000)] == ["duckdb", "spark"]
    assert Settings.from_env({"TIEOUT_ENGINE": "spark"} | few).engine_for(1) == "spark"
    assert Settings.from_env(few).engine_for(10**12) == "duckdb"


def test_broken_yaml_names_file_line_and_column(tmp_path):
    (tmp_path / "entities.yaml").write_text("entities: [\n  a: b: c\n")
    with pytest.raises(ConfigError, match=r"entities\.yaml:2:"):
        load_entities(tmp_path / "entities.yaml")


def test_the_shipped_entities_are_valid_and_an_unknown_one_is_named():
    entities = load_entities(SHIPPED_CONFIG / "entities.yaml")
    assert entities["JP"].functional_currency == "JPY"
    with pytest.raises(ConfigError, match="MARS"):
        entities["MARS"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"zone": "Mars/Olympus"}, "line 4, entities.0.zone: .*Mars/Olympus"),
        ({"functional_currency": "ZZZ"}, "line 3, entities.0.functional_currency: .*ZZZ"),
        ({"colour": "red"}, "line 8, entities.0.colour: Extra inputs"),
        ({"go_live": None}, "line 6, entities.0.go_live: "),
    ],
)
def test_a_wrong_entity_is_refused_with_file_line_and_field(tmp_path, wrong, says):
    entity = {"id": "US", "functional_currency": "USD", "zone": "UTC", "country": "US", "go_live": "2026-01-01"}
    entity |= {"name": "n"} | wrong
    path = tmp_path / "entities.yaml"
    path.write_text("entities:\n- " + "\n  ".join(f"{k}: {json.dumps(v)}" for k, v in entity.items()) + "\n")
    with pytest.raises(ConfigError, match=rf"entities\.yaml is not usable: {says}"):
        load_entities(path)


def test_a_connection_never_shows_its_secrets():
    text = json.dumps(
        {"conn_type": "http", "host": "https://x", "password": "hush", "extra": {"client_secret": "hush"}}
    )
    connection = Connection.from_env("stripe", {"AIRFLOW_CONN_STRIPE": text})
    assert connection.password == "hush"
    assert "hush" not in repr(connection)
    with pytest.raises(ConfigError, match="AIRFLOW_CONN_ZENDESK"):
        Connection.from_env("zendesk", {})


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abc.def",
        'body {"client_secret": "hush123"}',
        "key sk_test_51Habcdef",
        "password=hush123&x=1",
        "curl -H 'Bearer abc.def-_~+/='",
        "postgresql+psycopg://tieout:hush123@db/tieout",
        "https://tieout:p@hush123@db:5432/x",
        "sid 00D5g000004XyZ1!AQ8AQKabc.def_51Habcdef",
        'body {"password": "two words hush123, and; more abc.def"}',
        "{'token': 'two words and hush123'}",
        'body {"secret": "a \\" hush123"}',
        'body {"password": "two words and hush123 of a text that was c',
        "token='two words and hush123 of a text that was c",
        r"body {\"client_secret\": \"two words and hush123\"}",
        r"body {\"client_secret\": \"two words and hush123",
        "Basic aHVzaDEyMzphYmMuZGVmhush123",
        "sent eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.hush123",
        "pwd=hush123",
    ],
)
def test_credentials_are_cut_out_of_text(text):
    assert "***" in redact(text)
    for secret in ("abc.def", "hush123", "51Habcdef"):
        assert secret not in redact(text)


def test_what_is_no_credential_stays():
    for text in ("GET https://api.example.com:443/v1/x?at=a@b", "no bearer of news", '{"id": "00D5g000004XyZ1"}'):
        assert redact(text) == text
    assert redact('{"password": "a b", "id": "c"}') == '{"password": "***", "id": "c"}'
    assert redact("postgresql://tieout:hush@db/x") == "postgresql://tieout:***@db/x"


def test_errors_say_what_where_and_what_to_do():
    error = TieoutError("no such account", record="line 3", expected="11000", got="99", remedy="map it")
    assert str(error) == "no such account; record: line 3; expected: 11000; got: 99; remedy: map it"
    error = SourceError("gone", source="stripe_us", window="[a, b)", request="GET /v1/invoices")
    assert "stripe_us, window [a, b), request GET /v1/invoices" in str(error)
