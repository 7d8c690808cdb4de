"""Writes avro.json: the bytes of a record of every kind. Run it only for a new kind or version; old lines never change."""

import json
from pathlib import Path

from aicache.schemas.catalog import newest
from aicache.schemas.codec import Codec
from support.sample_records import samples

FILE = Path(__file__).with_name("avro.json")


def main() -> None:
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name, record in samples().items():
        known.setdefault(f"{name}-{newest(name).version}", Codec().encode(record).hex())
    FILE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
