"""Makes `user,item,timestamp` files, sorted by time, from public data sets.

usage: adapters.py NAME FOLDER OUT

NAME is ml-100k (ratings of 5 only), ask-ubuntu-tags (a question is a user) or app-libraries (an app is a user; also writes
OUT's sibling with `-hidden` in its name: the libraries held back).
"""

import csv
import gzip
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

Row = tuple[str, str, int]


def lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt") as file:
        yield from (line.rstrip("\n") for line in file)


def ml_100k(folder: Path) -> list[Row]:
    rows = [line.split("\t") for line in lines(folder / "ml-100k.inter.gz")][1:]
    return sorted(
        ((user, item, int(float(time))) for user, item, rating, time in rows if float(rating) == 5), key=lambda r: r[2]
    )


def ask_ubuntu(folder: Path) -> list[Row]:
    counts = [int(line) for line in lines(folder / "nverts.txt.gz")]
    tags = lines(folder / "simplices.txt.gz")
    times = [int(line) // 1000 for line in lines(folder / "times.txt.gz")]
    precise = [int(line) for line in lines(folder / "times.txt.gz")]
    questions = [[next(tags) for _ in range(count)] for count in counts]
    order = sorted(range(len(counts)), key=precise.__getitem__)
    return [(str(number), tag, times[number]) for number in order for tag in questions[number]]


def app_libraries(folder: Path, name: str = "train.csv.gz") -> list[Row]:
    rows: list[Row] = []
    for line in lines(folder / name):
        app, *libraries = line.replace(",", " ").split()
        rows += [(app, library, int(app)) for library in libraries]
    return sorted(rows, key=lambda row: row[2])


def write(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("user", "item", "timestamp"))
        writer.writerows(rows)


def main(name: str, folder: str, out: str) -> None:
    makers = {"ml-100k": ml_100k, "ask-ubuntu-tags": ask_ubuntu, "app-libraries": app_libraries}
    if name not in makers:
        sys.exit(f"no adapter is called {name}; there are {', '.join(makers)}")
    path = Path(out)
    write(path, makers[name](Path(folder)))
    if name == "app-libraries":
        write(path.with_name(f"{path.stem}-hidden{path.suffix}"), app_libraries(Path(folder), "hidden.csv.gz"))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
