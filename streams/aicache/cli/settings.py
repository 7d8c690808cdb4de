"""Every setting of the commands: `aicache.toml`, `AICACHE_…` variables, flags, in that order, the later ones win.

This module imports pydantic, so commands import it when they run; the client SDK never does. A wrong key or value names itself
and where it stands, and secrets are never printed.
"""

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from aicache.privacy.errors import LocalError
from aicache.producers.connection import KafkaSettings

ENV_PREFIX = "AICACHE_"
NOT_SETTINGS = frozenset({"AICACHE_CONFIG", "AICACHE_CACHE"})  # variables that say where things are, not how they are
UNDERSCORED = frozenset({"log_level"})  # the one setting of librdkafka whose name has no dots
FILE_NAME = "aicache.toml"
MASK = "••••••"
HARMLESS_SECURITY = ("security.protocol", "sasl.mechanism", "sasl.mechanisms", "ssl.ca.location", "client.dns.lookup")


class Section(BaseModel):
    """A table of the file; what is not named here is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Kafka(Section):
    """Which Kafka, and which deployment on it."""

    bootstrap_servers: str = Field(
        default="", description="host:port, several with commas; empty: the Kafka of `aicache up` here"
    )
    prefix: str = Field(
        default="", description="put before every topic's name, ended by a dot; lets deployments share one Kafka"
    )
    deployment: str = Field(default="aicache", min_length=1, description="what signatures are bound to")
    security: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="settings of librdkafka: security.protocol, sasl.username, ssl.ca.location …"
    )

    @field_validator("security", mode="before")
    @classmethod
    def _dotted(cls, value: object) -> object:
        """TOML's dotted keys become tables and variables have no dots: `sasl.username` is meant either way."""
        if not isinstance(value, Mapping):
            return value
        return {key if key in UNDERSCORED else key.replace("_", "."): item for key, item in _flatten(value)}


class Registry(Section):
    """A Confluent-compatible schema registry, if there is one."""

    url: str = Field(default="", description="its ccompat address; empty: records carry Avro single-object encoding")
    username: str = Field(default="", description="for HTTP basic authentication")
    password: SecretStr = Field(default=SecretStr(""), description="for HTTP basic authentication")


class Client(Section):
    """The owner's own limits: nothing leaves beyond them, whatever the operator asks for."""

    folder: Path = Field(
        default=Path(platformdirs.user_data_dir("aicache")) / "client",
        description="keys, ledger and spool (files 0600)",
    )
    tasks: list[str] = Field(default_factory=list, description="tasks that may be contributed to; none by default")
    n_min: int = Field(default=100, ge=2, description="smallest crowd to take part in")
    epsilon_max: float = Field(default=8.0, gt=0, description="privacy budget for each purpose")
    delta: float = Field(default=1e-5, gt=0, lt=1, description="the delta that goes with epsilon_max")
    committee: Path | None = Field(
        default=None, description="pinned committee identities (JSON); without it no round is joined"
    )


class Committee(Section):
    """The helpers that hold mask-key shares."""

    folder: Path = Field(default=Path(".aicache/committee"), description="each member's private store, a folder each")
    members: int = Field(default=5, ge=1, le=64, description="how many there are")
    threshold: int = Field(default=3, ge=1, le=64, description="how many open a sum; one fewer learn nothing")


class Operator(Section):
    """What the operator decides."""

    key: Path = Field(
        default=Path(".aicache/operator.key"), description="Ed25519 key that signs enrolments (file 0600)"
    )
    admission: Literal["manual", "open"] = Field(
        default="manual", description="who is enrolled: by `aicache enrol`, or everybody"
    )
    clients_max: int = Field(default=100_000, ge=1, description="how many clients `open` admits")


class Webhook(Section):
    """Where incidents are sent: `aicache incidents webhook`."""

    url: SecretStr = Field(default=SecretStr(""), description="the address; it may be a secret itself")
    secret: SecretStr = Field(
        default=SecretStr(""), description="for signatures: base64, with or without whsec_ before it"
    )


class Recommendations(Section):
    """How recommendations are ordered."""

    bandit: Literal["off", "observe", "on"] = Field(
        default="off",
        description="off: the ranker's order; observe: try others in a few answers and estimate what they bring; on: the bandit's order",
    )
    exploration: float = Field(
        default=0.1,
        ge=0.02,
        le=0.2,
        description="share of answers whose first five are shown in another order, at the start",
    )


class Local(Section):
    """The deployment on this machine: `aicache up` and `aicache demo`."""

    folder: Path = Field(
        default=Path(".aicache"), description="Kafka's data, logs, and the address that other commands find"
    )
    port: int = Field(default=0, ge=0, le=65_535, description="where Kafka listens on 127.0.0.1; 0: a free port")
    ready_timeout_s: float = Field(
        default=60.0, gt=0, description="how long a service may take to say that it is ready"
    )


class Settings(Section):
    """All of it."""

    kafka: Kafka = Field(default_factory=Kafka)
    registry: Registry = Field(default_factory=Registry)
    client: Client = Field(default_factory=Client)
    committee: Committee = Field(default_factory=Committee)
    operator: Operator = Field(default_factory=Operator)
    webhook: Webhook = Field(default_factory=Webhook)
    recommendations: Recommendations = Field(default_factory=Recommendations)
    local: Local = Field(default_factory=Local)


class _Variables(Settings, BaseSettings):
    """The same, as pydantic-settings finds it in the environment."""

    model_config = SettingsConfigDict(extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter="__")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and where each came from.

    Args:
        settings: validated.
        sources: dotted key → the file, the variable or the flag; a key that is not here has its default.
        file: the file that was read, if any.
    """

    settings: Settings
    sources: Mapping[str, str]
    file: Path | None

    def rows(self) -> list[tuple[str, str, str]]:
        """(key, value, source) of every setting, secrets masked."""
        rows = []
        for key, value in _leaves(self.settings):
            source = self.sources.get(key, "default")
            rows.append((key, _shown(key, value), source))
        return rows


def load(
    *,
    file: Path | None = None,
    flags: Mapping[str, str] | None = None,
    env: Mapping[str, str],
    here: Path | None = None,
) -> Loaded:
    """Read and check every setting.

    Args:
        file: given by flag or `AICACHE_CONFIG`: has to exist. None: `aicache.toml` here, then the user's, then none.
        flags: dotted key → text, as `--set` gives it.
        env: the environment.
        here: the folder to look in for `aicache.toml`.

    Raises:
        LocalError: a file that is missing or no TOML, an unknown key, a value of a wrong type; names key and place.
    """
    if file is None and env.get("AICACHE_CONFIG"):
        file = Path(env["AICACHE_CONFIG"])
    path = _find(file, here or Path())
    layers: list[tuple[dict[str, Any], Callable[[str], str]]] = [
        (_from_file(path), lambda _: str(path)),
        (_from_env(env), lambda key: ENV_PREFIX + key.upper().replace(".", "__")),
        (_nested(flags or {}), lambda key: f"--set {key}"),
    ]
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for layer, name in layers:
        merged = _merge(merged, layer)
        sources.update({key: name(key) for key, _ in _flatten(layer)})
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise _explained(error, sources) from None
    security = [key for key in sources if key.startswith("kafka.security.")]
    for key in security:
        sources["kafka.security." + key.removeprefix("kafka.security.").replace("_", ".")] = sources[key]
    return Loaded(settings, sources, path)


def kafka_settings(settings: Settings) -> KafkaSettings:
    """What the other packages take."""
    return KafkaSettings(
        bootstrap_servers=settings.kafka.bootstrap_servers,
        prefix=settings.kafka.prefix,
        deployment=settings.kafka.deployment,
        security=settings.kafka.security,
    )


def _find(file: Path | None, here: Path) -> Path | None:
    if file is not None:
        if not file.is_file():
            raise LocalError(f"the configuration file {file} does not exist", got=str(file), needed="a TOML file")
        return file
    candidates = (here / FILE_NAME, Path(platformdirs.user_config_dir("aicache")) / FILE_NAME)
    return next((path for path in candidates if path.is_file()), None)


def _from_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LocalError(f"{path} is no TOML: {error}", got=str(error), needed="TOML") from None


def _from_env(env: Mapping[str, str]) -> dict[str, Any]:
    """The variables, with their names checked: a misspelt one would otherwise be ignored in silence."""
    ours = {
        name.lower(): value for name, value in env.items() if name.startswith(ENV_PREFIX) and name not in NOT_SETTINGS
    }
    for name in ours:
        section = name.removeprefix(ENV_PREFIX.lower()).split("__")[0]
        if section not in Settings.model_fields:
            known = ", ".join(Settings.model_fields)
            raise LocalError(
                f"{name.upper()} in the environment: {section!r} is no section ({known})", got=section, needed=known
            )
        if _is_list(name) and not ours[name].lstrip().startswith("["):
            ours[name] = json.dumps([item.strip() for item in ours[name].split(",") if item.strip()])
    source = EnvSettingsSource(_Variables)
    source.env_vars = ours
    try:
        found: dict[str, Any] = source()
        return found
    except SettingsError as error:
        raise LocalError(f"in the environment: {error}", got=str(error), needed="JSON for a list or a table") from None


def _is_list(variable: str) -> bool:
    """Whether a variable fills a list: then commas do, besides JSON."""
    section, _, name = variable.removeprefix(ENV_PREFIX.lower()).partition("__")
    return name in _fields_of(section) and _fields_of(section)[name].annotation == list[str]


def _fields_of(section: str) -> Mapping[str, Any]:
    field = Settings.model_fields.get(section)
    return getattr(field.annotation, "model_fields", {}) if field else {}


def _nested(flags: Mapping[str, str]) -> dict[str, Any]:
    """`{"kafka.prefix": "x."}` as tables; texts are converted by pydantic, lists by commas."""
    tree: dict[str, Any] = {}
    for key, text in flags.items():
        section, _, name = key.partition(".")
        inner = _fields_of(section)
        if name.startswith("security."):
            tree.setdefault(section, {}).setdefault("security", {})[name.removeprefix("security.")] = text
            continue
        is_list = name in inner and inner[name].annotation == list[str]
        tree.setdefault(section, {})[name] = [item for item in text.split(",") if item] if is_list else text
    return tree


def _merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _flatten(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _leaves(model: BaseModel, before: str = "") -> Iterator[tuple[str, object]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{before}{name}.")
        elif isinstance(value, dict) and value:
            yield from ((f"{before}{name}.{key}", item) for key, item in value.items())
        else:
            yield f"{before}{name}", value


def _shown(key: str, value: object) -> str:
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    if key.startswith("kafka.security.") and key.removeprefix("kafka.security.") not in HARMLESS_SECURITY:
        return MASK
    if isinstance(value, list | dict):
        return ", ".join(str(item) for item in value)
    return "" if value is None else str(value)


def _explained(error: ValidationError, sources: Mapping[str, str]) -> LocalError:
    """Pydantic's complaints, each with its key and where that key stands; never with the value, which may be secret."""
    lines = []
    for item in error.errors(include_input=False, include_url=False):
        parts = [str(part) for part in item["loc"]]
        key = next(
            (".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in sources), ".".join(parts)
        )
        place = sources.get(key) or next(
            (where for name, where in sources.items() if name.startswith(f"{key}.")), "the settings"
        )
        what = f"unknown key {key}" if item["type"] == "extra_forbidden" else f"{key}: {item['msg']}"
        lines.append(f"{place}: {what}")
    return LocalError("\n".join(sorted(set(lines))), got=lines, needed=None)
