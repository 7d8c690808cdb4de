"""What a batch of usage says of the situation that it comes from, and whether its names are names. Pure."""

from functools import lru_cache

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas.records import UsageBatch
from aicache.streams.recommendations.vocabulary import ATTRIBUTES, namespace_of

NAME_MAX = 160
NAMES_CACHED = 65_536


def attributes_of(usage: UsageBatch) -> list[str]:
    """What describes the situation, as items: `language:python` and so on."""
    tool = usage.tool.partition("@")[0]
    values = (usage.language, usage.framework, usage.os_family, usage.task, tool, usage.daytime)
    return [f"{name}:{value}" for name, value in zip(ATTRIBUTES, values, strict=True) if value]


def checked_attributes(usage: UsageBatch) -> list[str]:
    """What describes the situation.

    Raises:
        RemoteError: it, or an item, is no name.
    """
    for event in usage.events:
        for item in (*event.items, *event.context):
            if fault := _fault(item):
                raise RemoteError(fault, reason="bad-item", got=item[:NAME_MAX], needed="namespace:name")
    attributes = attributes_of(usage)
    if not all(map(_is_name, attributes)):
        raise RemoteError("an attribute is short and on one line", reason="bad-item", needed=f"≤ {NAME_MAX} characters")
    return attributes


@lru_cache(NAMES_CACHED)
def _fault(item: str) -> str:
    """What is wrong with the name of an item; empty where nothing is."""
    try:
        namespace = namespace_of(item)
    except LocalError:
        return "an item has no namespace"
    if namespace in ATTRIBUTES:
        return "an item is in a namespace of attributes"
    return "" if _is_name(item) else "a name is short and on one line"


def _is_name(name: str) -> bool:
    return len(name) <= NAME_MAX and name.isprintable()
