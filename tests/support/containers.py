"""What container tests share: images, whether there is an engine, which compose there is."""

import shutil
import socket
import subprocess

KAFKA = "apache/kafka:4.4.0"
APICURIO = "apicurio/apicurio-registry:3.3.3"


def engine_error() -> str:
    """Why there is no Docker engine to be used; empty where there is one."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    try:
        found = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return "the Docker engine does not answer"
    return "" if found.returncode == 0 else f"the Docker engine cannot be used: {found.stderr.strip()[:200]}"


def compose() -> list[str]:
    """The words that call Docker Compose: the plugin, or the command of old."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True)
    return ["docker", "compose"] if plugin.returncode == 0 else ["docker-compose"]


def free_port() -> int:
    """A port that nothing listened on a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
