"""Where the embedded Kafka's class path comes from: Maven Central once, then this machine's cache.

jgo resolves and downloads; what it brought is compared with the hashes in `jars.lock`, which is part of the package:
what runs is what was reviewed, wherever it was fetched from. The first resolution holds a file lock, so that two
processes at once do not clash.
"""

import hashlib
import json
import os
from importlib import resources
from pathlib import Path

import platformdirs

from aicache.privacy.errors import LocalError

KAFKA_VERSION = "4.4.0"
ENDPOINT = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
MAVEN_CENTRAL = "https://repo.maven.apache.org/maven2"


def cache_folder() -> Path:
    """The folder of this user where jars and start-up archives are kept (`AICACHE_CACHE` moves it)."""
    moved = os.environ.get("AICACHE_CACHE")
    return Path(moved) if moved else Path(platformdirs.user_cache_dir("aicache"))


def cached() -> bool:
    """Whether the embedded Kafka can start without network."""
    return bool(_read(cache_folder() / f"kafka-{KAFKA_VERSION}" / "class-path.json"))


def class_path() -> list[Path]:
    """The jars of Kafka, in order; downloaded and checked the first time, without network afterwards.

    Raises:
        LocalError: they are neither in the cache nor can be fetched, or a hash is not the reviewed one.
    """
    folder = cache_folder() / f"kafka-{KAFKA_VERSION}"
    listing = folder / "class-path.json"
    known = _read(listing)
    if known:
        return known
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = _read(listing)
        if known:
            return known
        jars = _resolve(folder)
        _check(jars)
        draft = listing.with_suffix(".part")
        draft.write_text(json.dumps([str(jar) for jar in jars]))
        draft.replace(listing)
        return jars


def reviewed_hashes() -> dict[str, str]:
    """SHA-256 of every jar that may run, by file name."""
    text = resources.files("aicache.local").joinpath("jars.lock").read_text()
    return {name: digest for digest, name in (line.split() for line in text.splitlines() if line and line[0] != "#")}


def _read(listing: Path) -> list[Path]:
    """The jars of an earlier resolution, or nothing if any is gone."""
    try:
        jars = [Path(name) for name in json.loads(listing.read_text())]
    except (OSError, ValueError):
        return []
    return jars if jars and all(jar.is_file() for jar in jars) else []


def _resolve(folder: Path) -> list[Path]:
    from jgo.env import EnvironmentBuilder, LinkStrategy
    from jgo.maven import MavenContext

    try:
        context = MavenContext(repo_cache=folder / "repository", remote_repos={"central": MAVEN_CENTRAL})
        builder = EnvironmentBuilder(context=context, cache_dir=folder / "jars", link_strategy=LinkStrategy.AUTO)
        return sorted(builder.from_endpoint(endpoint=ENDPOINT, update=False).all_jars)
    except Exception as error:  # jgo lets the errors of its HTTP client, XML parser and file system through
        raise LocalError(
            f"Kafka {KAFKA_VERSION} is not in {folder} and could not be fetched from Maven Central ({error}). "
            "Connect this machine to the network once, or set AICACHE_CACHE to a folder that has it.",
            got=type(error).__name__,
            needed=ENDPOINT,
        ) from error


def _check(jars: list[Path]) -> None:
    got = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in jars}
    needed = reviewed_hashes()
    wrong = sorted(name for name in got.keys() | needed.keys() if got.get(name) != needed.get(name))
    if wrong:
        raise LocalError(
            f"These files are not the ones that were reviewed, or are missing: {', '.join(wrong)}. Nothing was started.",
            got={name: got.get(name) for name in wrong},
            needed={name: needed.get(name) for name in wrong},
        )
