"""Structured logs: one JSON object a line on the error output. Never keys, values or anything that a client has sent."""

import json
import logging
import sys
import time

LOGGER = logging.getLogger("aicache.runtime")


class JsonLines(logging.Formatter):
    """`{"time": …, "level": …, "event": …}` and the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        told = {"time": when, "level": record.levelname.lower(), "event": record.getMessage()}
        return json.dumps({**told, **getattr(record, "fields", {})}, default=str)


def write_json_logs(level: int = logging.INFO) -> None:
    """Send this package's logs to the error output as JSON lines; a second call changes nothing."""
    if any(isinstance(handler.formatter, JsonLines) for handler in LOGGER.handlers):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    LOGGER.addHandler(handler)
    LOGGER.setLevel(level)
    LOGGER.propagate = False


def log(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Tell an event, in a few fixed words, with its fields."""
    LOGGER.log(level, event, extra={"fields": fields})
