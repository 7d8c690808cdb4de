"""Confluent framing: 00, the schema's id in a registry (4 bytes, big-endian), the Avro body.

Any registry with the Confluent-compatible interface does (subject name strategy RecordName: `aicache.Vote`). The registry only
translates ids: what may be decoded stays decided by the catalog of this package, whose schemas are compared in Avro's parsing
canonical form. Producers never register; `register_all` is for operators.
Boundary: HTTP through httpx (extra `registry`). Invariant: no id is asked for twice.
"""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from fastavro.schema import to_parsing_canonical_form

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas.catalog import RECORD_TYPES, Schema, newest, versions

MAGIC = b"\x00"
ID_BYTES = 4
HEADER_BYTES = len(MAGIC) + ID_BYTES
LEVEL = "FULL_TRANSITIVE"
TIMEOUT_S = 10.0
UNKNOWN_IDS_MAX = (
    4_096  # ids that were asked for in vain and are remembered, so that hostile records do not become requests
)
NOT_FOUND = 404
CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


def subject_of(record: str) -> str:
    """The subject under which a record's schema is registered."""
    return f"aicache.{record}"


class Registry:
    """The few calls that are needed of a registry.

    Args:
        url: of its Confluent-compatible interface, as `http://localhost:8080/apis/ccompat/v7`.
        username, password: for HTTP basic authentication; none where empty.

    Raises:
        LocalError: the extra `registry` is not installed, or the URL is none.
    """

    def __init__(self, url: str, username: str = "", password: str = "") -> None:
        try:
            import httpx
        except ModuleNotFoundError:
            raise LocalError(
                "a schema registry needs the extra 'registry': pip install 'aicache[registry]'", needed="httpx"
            ) from None
        if not url.startswith(("http://", "https://")):
            raise LocalError(
                f"the registry's url {url!r} has to begin with http:// or https://", got=url, needed="a URL"
            )
        self._url = url.rstrip("/")
        self._errors = (httpx.HTTPError, httpx.InvalidURL)
        self._http = httpx.Client(
            auth=(username, password) if username else None, timeout=TIMEOUT_S, headers={"Content-Type": CONTENT_TYPE}
        )

    def schema_text(self, number: int) -> str | None:
        """The schema with an id; None where there is none."""
        found = self._call("GET", f"/schemas/ids/{number}")
        return None if found is None else str(found.get("schema", ""))

    def id_of(self, schema: Schema) -> int | None:
        """The id of a registered schema; None where it is not registered."""
        found = self._call("POST", f"/subjects/{subject_of(schema.record)}", {"schema": json.dumps(schema.source)})
        return None if found is None else int(found["id"])

    def register(self, schema: Schema) -> int:
        """Register a schema, or find it registered, and give its id."""
        body = {"schema": json.dumps(schema.source)}
        found = self._call("POST", f"/subjects/{subject_of(schema.record)}/versions", body)
        if found is None:
            raise LocalError(f"the registry did not register {schema.record}", got="404", needed="an id")
        return int(found["id"])

    def level(self) -> str:
        """The compatibility level that holds for every subject without one of its own."""
        return str((self._call("GET", "/config") or {}).get("compatibilityLevel", "NONE"))

    def set_level(self) -> None:
        """Set it to what is needed."""
        self._call("PUT", "/config", {"compatibility": LEVEL})

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        try:
            answer = self._http.request(method, self._url + path, json=body)
            if answer.status_code == NOT_FOUND:
                return None
            answer.raise_for_status()
            found = answer.json()
        except (*self._errors, ValueError) as error:
            # Not a RemoteError: the record at hand is not to blame, and must not be given up for it.
            raise LocalError(
                f"the schema registry {self._url} failed at {method} {path}: {error or type(error).__name__}",
                got=str(error),
                needed="a registry that answers",
            ) from None
        if not isinstance(found, dict):
            raise LocalError(f"{self._url} is no schema registry", got=type(found).__name__, needed="an object")
        return found


class ConfluentFraming:
    """The wire form that names schemas by a registry's ids; see `codec.Framing`.

    Args:
        registry: where the ids are.

    Examples:
        >>> from aicache.schemas.codec import Codec
        >>> codec = Codec(ConfluentFraming(Registry("http://localhost:8081")))  # doctest: +SKIP
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._headers: dict[bytes, bytes] = {}
        self._schemas: dict[int, Schema | None] = {}

    def check(self) -> None:
        """Make sure that the registry guards compatibility and knows every schema; afterwards no known id is asked for.

        Raises:
            LocalError: it does not, or it cannot be reached.
        """
        level = self._registry.level()
        if level != LEVEL:
            raise LocalError(
                f"the registry's compatibility level is {level}, it has to be {LEVEL}: aicache topics create",
                got=level,
                needed=LEVEL,
            )
        for record in RECORD_TYPES:
            self.header(newest(record))

    def header(self, schema: Schema) -> bytes:
        """See `codec.Framing.header`.

        Raises:
            LocalError: the schema is not registered, or the registry cannot be reached.
        """
        known = self._headers.get(schema.fingerprint)
        if known is None:
            number = self._registry.id_of(schema)
            if number is None:
                raise LocalError(
                    f"the registry does not know {subject_of(schema.record)} {schema.version}: aicache topics create",
                    got="not registered",
                    needed="the schema",
                )
            known = self._headers[schema.fingerprint] = MAGIC + number.to_bytes(ID_BYTES, "big")
            self._schemas[number] = schema
        return known

    def split(self, data: bytes) -> tuple[Schema, int]:
        """See `codec.Framing.split`.

        Raises:
            LocalError: the registry cannot be reached and the id was not seen before.
        """
        if data[:1] != MAGIC or len(data) < HEADER_BYTES:
            raise RemoteError(
                "not a record in Confluent framing", reason="bad-framing", got=data[:1].hex(), needed=MAGIC.hex()
            )
        number = int.from_bytes(data[1:HEADER_BYTES], "big")
        if number not in self._schemas:
            self._remember(number, ours(self._registry.schema_text(number) or ""))
        schema = self._schemas[number]
        if schema is None:
            raise RemoteError(
                "the registry's id is not that of a schema of this package",
                reason="unknown-schema",
                got=number,
                needed="the id of a schema in aicache.schemas",
            )
        return schema, HEADER_BYTES

    def _remember(self, number: int, schema: Schema | None) -> None:
        unknown = [old for old, found in self._schemas.items() if found is None]
        if schema is None and len(unknown) >= UNKNOWN_IDS_MAX:
            del self._schemas[unknown[0]]
        self._schemas[number] = schema


@cache
def _by_canonical() -> Mapping[str, Schema]:
    return {schema.canonical: schema for record in RECORD_TYPES for schema in versions(record)}


def ours(text: str) -> Schema | None:
    """The schema of the catalog that equals a registry's in canonical form, if there is one."""
    try:
        canonical = to_parsing_canonical_form(json.loads(text))
    except Exception:  # fastavro has no common error for what is no schema, and whatever it raises, it is none of ours
        return None
    return _by_canonical().get(canonical)


def register_all(registry: Registry) -> dict[str, int]:
    """Set the compatibility level and register every version of every schema, oldest first.

    Returns:
        Subject to the id of its newest version.
    """
    registry.set_level()
    return {
        subject_of(record): [registry.register(schema) for schema in versions(record)][-1] for record in RECORD_TYPES
    }
