"""The crowd as the story sees it: its processes, started together and told the same things at the same time. Boundary: processes."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aicache.local.demo import script
from aicache.local.demo.crowd import STOP
from aicache.privacy.errors import AicacheError

STOP_TIMEOUT_S = 30.0


class CrowdError(AicacheError):
    """A process of the crowd has ended."""


class People:
    """The crowd's processes.

    Args:
        told: what all of them are told first; which clients each is comes on top.
        log: where they complain.
    """

    def __init__(self, told: dict[str, Any], log: Path) -> None:
        self.folder = log.parent
        self._log = log.open("ab")
        self._pool = ThreadPoolExecutor(script.PROCESSES)
        share = script.CLIENTS // script.PROCESSES
        self._processes: list[subprocess.Popen[str]] = []
        for number in range(script.PROCESSES):
            process = subprocess.Popen(
                [sys.executable, "-m", "aicache.local.demo.crowd"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                start_new_session=True,  # a Ctrl-C is for the story, which then ends them
            )
            self._processes.append(process)
            self._say(process, {**told, "first": number * share, "last": (number + 1) * share})

    def tell(self, word: str, *arguments: list[Any]) -> list[Any]:
        """Have every process do something, each with arguments of its own, and gather the answers."""
        each = arguments or ([],) * len(self._processes)
        return list(
            self._pool.map(lambda pair: self._ask(pair[0], [word, *pair[1]]), zip(self._processes, each, strict=True))
        )

    def start(self, word: str) -> Any:
        """Have every process begin something; the future gives the answers."""
        return ThreadPoolExecutor(1).submit(self.tell, word)

    def _ask(self, process: subprocess.Popen[str], line: list[Any]) -> Any:
        self._say(process, line)
        assert process.stdout is not None
        answer = process.stdout.readline()
        if not answer:
            raise CrowdError(
                f"a process of the crowd has ended; see {self._log.name}", got=process.poll(), needed="an answer"
            )
        return json.loads(answer)["answer"]

    @staticmethod
    def _say(process: subprocess.Popen[str], what: Any) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(what) + "\n")
        process.stdin.flush()

    def stop(self) -> None:
        """End them, in order if they answer."""
        for process in self._processes:
            if process.poll() is None and process.stdin is not None:
                process.stdin.write(STOP)
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for process in self._processes:
                process.kill()
        self.stop()
