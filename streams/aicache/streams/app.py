"""The only faust.App, as a factory: the settings under which Faust keeps the runtime's contract.

Each one was found by trial (docs/decisions): acknowledged at least once, no tables, raw bytes, one agent instance, small buffers,
no web server, no topic of its own. Boundary: faust.
"""

import ssl
import tempfile
from typing import Any

import faust
from faust.types.auth import AuthProtocol
from yarl import URL

from aicache.privacy.errors import LocalError
from aicache.producers.connection import KafkaSettings

STREAM_BUFFER = 1_024
SESSION_TIMEOUT_S = 6.0
HEARTBEAT_S = 1.0
COMMIT_INTERVAL_S = 0.5


def make_app(name: str, settings: KafkaSettings, *, instance: str | None = None) -> faust.App:
    """A Faust application for one processor.

    Args:
        name: of the processor.
        settings: how to reach Kafka.
        instance: name of this worker, unique among those of the processor; None: a restart is a new member of the group.
            An empty name would make two workers throw each other out for ever, so it is refused.

    Raises:
        LocalError: the instance name is empty, or a security setting has no counterpart in Faust.
    """
    if instance == "":
        raise LocalError("a worker's instance name is not empty", got=instance, needed="a unique name, or none")
    credentials = _credentials(settings)
    return faust.App(
        settings.name(f"aicache-{name}"),
        broker=[URL(f"kafka://{server.strip()}") for server in settings.bootstrap_servers.split(",")],
        **({"broker_credentials": credentials} if credentials is not None else {}),
        datadir=tempfile.mkdtemp(prefix=f"aicache-{name}-"),
        store="memory://",
        processing_guarantee="at_least_once",
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=instance,
        producer_acks=-1,
        stream_buffer_maxsize=STREAM_BUFFER,
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=HEARTBEAT_S,
        broker_commit_interval=COMMIT_INTERVAL_S,
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        key_serializer="raw",
        value_serializer="raw",
        worker_redirect_stdouts=False,
    )


def _credentials(settings: KafkaSettings) -> Any:
    """Faust's form of librdkafka's security settings; None for plain text."""
    security = {key: str(value) for key, value in settings.security.items()}
    protocol = security.pop("security.protocol", "plaintext").upper()
    context = None
    if protocol in {"SSL", "SASL_SSL"}:
        context = ssl.create_default_context(cafile=security.pop("ssl.ca.location", None))
        certificate = security.pop("ssl.certificate.location", None)
        if certificate:
            context.load_cert_chain(
                certificate, security.pop("ssl.key.location", None), security.pop("ssl.key.password", None)
            )
    if protocol.startswith("SASL"):
        credentials: Any = faust.SASLCredentials(
            username=security.pop("sasl.username", None),
            password=security.pop("sasl.password", None),
            ssl_context=context,
            mechanism=security.pop("sasl.mechanism", security.pop("sasl.mechanisms", "PLAIN")),
        )
        credentials.protocol = AuthProtocol(protocol)
    else:
        credentials = None if context is None else faust.SSLCredentials(context)
    if security:
        raise LocalError(
            f"Faust has no counterpart for {', '.join(sorted(security))}",
            got=sorted(security),
            needed="security.protocol, ssl.ca.location, ssl.certificate.location, ssl.key.*, sasl.*",
        )
    return credentials
