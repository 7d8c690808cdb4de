"""Log lines as templates, found on the client by Drain (He et al., ICWS 2017; drain3); only known public ones may be told.

A template's name is the salted hash of its constant words. Whoever publishes a library lists the hashes of its templates; a line whose
template is not on the list, and so every line of one's own, leaves no trace but a count. Bounded: `CLUSTERS_MAX` templates.
Boundary: drain3, of the extra `signals`.
"""

import hashlib
from collections.abc import Collection
from typing import TYPE_CHECKING

from aicache.privacy.errors import LocalError

if TYPE_CHECKING:
    from drain3 import TemplateMiner

CLUSTERS_MAX = 1_000
LINE_CHARS_MAX = 2_000
SIGNATURE_BYTES = 16
_MASKS = (
    (r"0x[0-9a-fA-F]+", "hex"),
    (r"(?<![A-Za-z0-9])(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?(?![A-Za-z0-9])", "address"),
    (r"(?<![A-Za-z0-9])[-+]?\d+(?:[.,:]\d+)*(?![A-Za-z0-9])", "number"),
    (r"(?<![A-Za-z0-9])(?:/[^\s/:]+)+/?", "path"),
)


class Templates:
    """Templates of the lines seen so far.

    Args:
        salt: the deployment's.
        known: hashes (`sig:…`) of public templates, as `template_item` gives them.
    """

    def __init__(self, *, salt: bytes, known: Collection[str]) -> None:
        self._salt = salt
        self._known = frozenset(known)
        self._miner = _miner()
        self.unknown = 0
        """Lines whose template is not public."""

    def learn(self, line: str) -> str | None:
        """Learn a line; the item to tell if its template is public, else None."""
        _, template = self._mine(line)
        item = template_item(template, self._salt)
        if item in self._known:
            return item
        self.unknown += 1
        return None

    def group(self, line: str) -> int:
        """Learn a line; the number of its template, which says nothing outside of this process."""
        return self._mine(line)[0]

    def _mine(self, line: str) -> tuple[int, str]:
        found = self._miner.add_log_message(line[:LINE_CHARS_MAX].replace("\n", " "))
        return int(found["cluster_id"]), str(found["template_mined"])


def template_item(template: str, salt: bytes) -> str:
    """The name under which a template is counted: `sig:` and a hash of the salt and the words that do not vary."""
    words = " ".join(word for word in template.split() if "<" not in word)
    digest = hashlib.sha256(len(salt).to_bytes(8, "big") + salt + words.encode()).digest()
    return "sig:" + digest[:SIGNATURE_BYTES].hex()


def _miner() -> "TemplateMiner":
    try:
        from drain3 import TemplateMiner
        from drain3.masking import MaskingInstruction
        from drain3.template_miner_config import TemplateMinerConfig
    except ImportError as error:
        raise LocalError("log templates need the extra signals", got="no drain3", needed="aicache[signals]") from error
    config = TemplateMinerConfig()
    config.drain_max_clusters = CLUSTERS_MAX
    config.masking_instructions = [MaskingInstruction(pattern, name) for pattern, name in _MASKS]
    return TemplateMiner(config=config)
