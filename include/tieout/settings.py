"""Where things are and how much they may use: the environment read once into a value."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from tieout.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
SPARK_FROM_ROWS = 1_000_000_000
ENGINES = ("duckdb", "spark", "auto")
_MASTER = re.compile(r"(spark://.+|k8s://.+|yarn|local(\[.+\])?)\Z")
CONFIG_APPROVAL = ("required", "off")
SHIPPED_CONFIG = Path(__file__).resolve().parents[1] / "config"


@dataclass(frozen=True, slots=True)
class Settings:
    """Tieout's settings; every field has a `TIEOUT_*` variable, see `from_env`."""

    home: Path
    config: Path
    lake: str
    store: str = field(repr=False)  # may hold a password
    engine: str = "duckdb"
    """What usage is summed up by: `duckdb` here, `spark` on a cluster, `auto` by the number of events."""
    spark_master: str | None = None
    """The cluster that this process itself is a driver of; the other way is `spark_connection`."""
    spark_connection: str | None = None
    """The Airflow connection by which the step is handed to spark-submit."""
    spark_from_rows: int = SPARK_FROM_ROWS
    """From how many events on `auto` takes Spark."""
    spark_work_folder: str | None = None
    memory_limit: str = "2GB"
    threads: int = 2
    anchor_folder: Path | None = None
    config_approval: str = "off"
    """`required`: runs use the configuration a second person approved, not the folder as it is."""
    shipped: Path = SHIPPED_CONFIG
    """Where a file that the configuration does not have comes from."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read TIEOUT_HOME, _CONFIG, _CONFIG_APPROVAL, _LAKE, _STORE, _ANCHORS, _ENGINE, _MEMORY_LIMIT, _THREADS and
        _SPARK_MASTER, _SPARK_CONNECTION, _SPARK_FROM_ROWS, _SPARK_WORK.

        TIEOUT_CONFIG_APPROVAL is `required` unless it says `off`, which is for sandboxes. TIEOUT_STORE falls back to
        the connection `tieout_store` in the environment, then to SQLite under home.
        Raises ConfigError for an engine that is not there, a cluster that is not named or named twice, and an approval
        that is neither.
        """
        env = os.environ if env is None else env
        home = Path(env.get("TIEOUT_HOME", "var")).resolve()
        engine = env.get("TIEOUT_ENGINE", "duckdb")
        if engine not in ENGINES:
            raise ConfigError("no such engine", record="TIEOUT_ENGINE", got=engine, expected=ENGINES)
        master, connection = env.get("TIEOUT_SPARK_MASTER") or None, env.get("TIEOUT_SPARK_CONNECTION") or None
        _check_cluster(engine, master, connection)
        approval = env.get("TIEOUT_CONFIG_APPROVAL", "required")
        if approval not in CONFIG_APPROVAL:
            raise ConfigError(
                "no such setting", record="TIEOUT_CONFIG_APPROVAL", got=approval, expected=CONFIG_APPROVAL
            )
        store = env.get("TIEOUT_STORE") or _store_connection(env) or f"sqlite:///{home / 'store.sqlite'}"
        return cls(
            home=home,
            config=Path(env.get("TIEOUT_CONFIG", str(SHIPPED_CONFIG))).resolve(),
            lake=env.get("TIEOUT_LAKE", str(home / "lake")),
            store=store,
            engine=engine,
            spark_master=master,
            spark_connection=connection,
            spark_from_rows=_whole_number(env, "TIEOUT_SPARK_FROM_ROWS", SPARK_FROM_ROWS),
            spark_work_folder=env.get("TIEOUT_SPARK_WORK") or None,
            memory_limit=env.get("TIEOUT_MEMORY_LIMIT", "2GB"),
            threads=int(env.get("TIEOUT_THREADS", "2")),
            anchor_folder=Path(env["TIEOUT_ANCHORS"]).resolve() if env.get("TIEOUT_ANCHORS") else None,
            config_approval=approval,
        )

    def engine_for(self, rows: int) -> str:
        """`duckdb` or `spark`, for so many usage events."""
        if self.engine == "auto":
            return "spark" if rows >= self.spark_from_rows else "duckdb"
        return self.engine

    @property
    def spark_work(self) -> str:
        """Where Spark keeps temporary tables: a folder that every executor reaches, as it reaches the lake."""
        return self.spark_work_folder or f"{self.lake}/_spark"

    def last_approved(self) -> Settings:
        """The same with the configuration last seen in force, for whoever may not ask the store: DAG files.

        Before the first start there is none; then, and where approval is off, the folder itself.
        """
        pointer = self.approved_config / "current"
        if self.config_approval == "off" or not pointer.exists():
            return self
        folder = self.approved_config / pointer.read_text()
        return replace(self, config=folder, shipped=folder)

    @property
    def approved_config(self) -> Path:
        """Where approved versions of the configuration are laid out."""
        return self.home / "config"

    @property
    def raw(self) -> Path:
        """Where landed pages are kept."""
        return self.home / "raw"

    @property
    def usage_state(self) -> Path:
        """Where the usage step keeps what it has summed up; removed, it reads all events once more."""
        return self.home / "usage"

    @property
    def reports(self) -> Path:
        """Where reports and result files for people and data teams are written."""
        return self.home / "reports"

    @property
    def evidence(self) -> Path:
        """Where evidence packs are written."""
        return self.home / "evidence"

    @property
    def anchors(self) -> Path:
        """Where anchors of the audit chains are written: a folder on write-once storage, else beside the evidence."""
        return self.anchor_folder or self.evidence / "anchors"

    def config_file(self, name: str) -> Path:
        """The file to use for `name`: the configured folder's own, else the shipped one.

        Raises ConfigError naming both places if neither has it.
        """
        for root in (self.config, self.shipped):
            if (root / name).exists():
                return root / name
        raise ConfigError(
            f"no configuration file {name}",
            expected=f"{self.config / name} or {self.shipped / name}",
            remedy="create the file, or point TIEOUT_CONFIG at the folder that has it",
        )

    def config_files(self, folder: str, suffix: str) -> list[Path]:
        """Every file of a configuration folder, the configured folder's own winning by name, ordered by name."""
        found: dict[str, Path] = {}
        for root in (self.shipped, self.config):
            found |= {p.name: p for p in sorted((root / folder).glob(f"*{suffix}"))}
        return [found[name] for name in sorted(found)]

    def load_yaml(self, name: str) -> Any:
        """Parse a YAML configuration file; a syntax error names the file, line and column."""
        return load_yaml(self.config_file(name))


def _check_cluster(engine: str, master: str | None, connection: str | None) -> None:
    if engine != "duckdb" and (master is None) == (connection is None):
        raise ConfigError(
            "Spark needs one cluster",
            record=f"TIEOUT_ENGINE={engine}",
            got="none" if master is None else "two",
            remedy="set TIEOUT_SPARK_MASTER to its address, or TIEOUT_SPARK_CONNECTION to an Airflow connection",
        )
    if master is not None and not _MASTER.match(master):
        raise ConfigError(
            "no address of a Spark cluster",
            record="TIEOUT_SPARK_MASTER",
            got=master,
            expected="spark://host:port, k8s://…, yarn or local[n]",
        )


def _whole_number(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not text.replace("_", "").isdecimal():
        raise ConfigError("not a whole number", record=name, got=text)
    return int(text)


def private_folder(path: Path) -> Path:
    """Create a folder and what is missing above it, for its own user alone; what is there stays as it is."""
    for folder in reversed([path, *path.parents]):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
    return path


class _Loader(yaml.CSafeLoader):
    """Refuses a setting that stands twice: the library would take the last one and say nothing of the others."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} stands twice, first in line {seen[key.value].line + 1}",
                    problem_mark=key.start_mark,
                )
            seen[key.value] = key.start_mark
        return super().construct_mapping(node, deep)


def load_yaml(path: Path) -> Any:
    """Parse one YAML file. Raises ConfigError with file, line and column."""
    try:
        # the safe loader in C: every command and task reads dozens of these files
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  a safe one
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigError("not valid YAML", record=where, got=getattr(error, "problem", error)) from error


def load_config(model: type[Model], path: Path) -> Model:
    """Parse a YAML file into a configuration model. Raises ConfigError with a line number for every mistake."""
    value = load_yaml(path)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        mistakes = "; ".join(_mistakes(error, yaml.compose(path.read_text(encoding="utf-8"))))
        raise ConfigError(f"{path.name} is not usable: {mistakes}", record=str(path)) from None


def _mistakes(error: ValidationError, root: yaml.Node | None) -> list[str]:
    """What is wrong, once for each place in the file, however many ways there are to read what stands there."""
    errors = error.errors(include_url=False)
    found: dict[str, list[str]] = {}
    for one in errors:
        location = one["loc"]
        if one["type"] == "too_short" and any(e["loc"][: len(location)] == location != e["loc"] for e in errors):
            continue  # its items are there and have mistakes of their own
        line, written = _line(root, location), _written(root, location)
        if one["type"] == "missing":
            written = (*written, location[-1])
        told = found.setdefault(f"line {line}, {'.'.join(map(str, written)) or 'file'}", [])
        message = one["msg"].removeprefix("Value error, ")
        told += [message] if message not in told else []
    return [f"{where}: {' or: '.join(messages)}" for where, messages in found.items()]


def _written(node: yaml.Node | None, location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The parts of `location` that the file really has; the others say how it was read."""
    found: list[int | str] = []
    for part in location:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        elif isinstance(node, yaml.MappingNode) and (of_key := [v for k, v in node.value if k.value == str(part)]):
            node = of_key[0]
        else:
            continue
        found.append(part)
    return tuple(found)


def line_of(path: Path, location: tuple[int | str, ...]) -> int:
    """The line of a YAML file where a setting stands, or the deepest part of the way to it that is there."""
    return _line(yaml.compose(path.read_text(encoding="utf-8")), location)


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """The line of the deepest part of `location` that the file really has."""
    line = node.start_mark.line + 1 if node else 1
    for part in location:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            found = [(key, child) for key, child in node.value if key.value == str(part)]
            if not found:
                continue
            line, node = found[0][0].start_mark.line + 1, found[0][1]
    return line


@dataclass(frozen=True, slots=True)
class Connection:
    """An Airflow connection as plain values. Its secrets never show in `repr`."""

    conn_id: str
    host: str
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    schema: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, conn_id: str, text: str) -> Connection:
        """From Airflow's JSON form (`{"conn_type", "host", "login", "password", "schema", "port", "extra"}`)."""
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            raise ConfigError("a connection must be in Airflow's JSON form", record=conn_id) from None
        host = value.get("host") or ""
        if value.get("port") and "://" in host:
            host = f"{host}:{value['port']}"
        extra = value.get("extra") or {}
        if isinstance(extra, str):
            extra = json.loads(extra)
        return cls(conn_id, host.rstrip("/"), value.get("login"), value.get("password"), value.get("schema"), extra)

    @classmethod
    def from_env(cls, conn_id: str, env: Mapping[str, str] | None = None) -> Connection:
        """From `AIRFLOW_CONN_<ID>`, the form Airflow itself reads. Raises ConfigError if it is not set."""
        env = os.environ if env is None else env
        name = f"AIRFLOW_CONN_{conn_id.upper()}"
        if name not in env:
            raise ConfigError("connection is not defined", record=conn_id, remedy=f"define it in Airflow or set {name}")
        return cls.from_json(conn_id, env[name])


def _store_connection(env: Mapping[str, str]) -> str | None:
    """A SQLAlchemy URL from the connection `tieout_store`, where the environment has one."""
    if "AIRFLOW_CONN_TIEOUT_STORE" not in env:
        return None
    from sqlalchemy.engine import URL

    value = json.loads(env["AIRFLOW_CONN_TIEOUT_STORE"])
    return URL.create(
        "postgresql+psycopg",
        username=value.get("login"),
        password=value.get("password"),
        host=value.get("host"),
        port=value.get("port"),
        database=value.get("schema"),
    ).render_as_string(hide_password=False)
