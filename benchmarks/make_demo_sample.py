"""Makes the demo's sample: 20,000 Ask Ubuntu questions in time order, spread over the tags.

usage: make_demo_sample.py ASK_UBUNTU_FOLDER OUT.csv.gz

The folder is ScHoLP-Data's tags-ask-ubuntu with every file gzipped. Questions are drawn by the rank of a hash, so that anybody
gets the same sample; a tenth of them is reserved for tags that would otherwise not occur.
"""

import gzip
import hashlib
import sys
from pathlib import Path

SIZE = 20_000
RESERVED_FOR_RARE_TAGS = SIZE // 10


def numbers(path: Path) -> list[int]:
    with gzip.open(path, "rt") as lines:
        return [int(line) for line in lines]


def questions(folder: Path) -> list[tuple[int, int, list[int]]]:
    """(time in milliseconds, number, tag numbers) of every question."""
    counts = numbers(folder / "nverts.txt.gz")
    tags = iter(numbers(folder / "simplices.txt.gz"))
    times = numbers(folder / "times.txt.gz")
    return [(times[i], i, sorted({next(tags) for _ in range(n)})) for i, n in enumerate(counts)]


def sample(everything: list[tuple[int, int, list[int]]]) -> list[tuple[int, int, list[int]]]:
    ranked = sorted(everything, key=lambda question: hashlib.sha256(b"sample %d" % question[1]).digest())
    chosen: dict[int, tuple[int, int, list[int]]] = {}
    seen: set[int] = set()
    for question in ranked:
        if len(chosen) < RESERVED_FOR_RARE_TAGS and not seen.issuperset(question[2]):
            chosen[question[1]] = question
            seen.update(question[2])
    for question in ranked:
        if len(chosen) < SIZE:
            chosen.setdefault(question[1], question)
    return sorted(chosen.values())


def main(folder: str, out: str) -> None:
    with gzip.open(Path(folder) / "node-labels.txt.gz", "rt") as lines:
        names = {int(number): name.strip() for number, name in (line.split(None, 1) for line in lines)}
    rows = [
        f"{time_ms // 1000},{' '.join(names[tag] for tag in tags)}"
        for time_ms, _, tags in sample(questions(Path(folder)))
    ]
    text = "\n".join(["time_s,tags", *rows, ""])
    with Path(out).open("wb") as file, gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
        packed.write(text.encode())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
