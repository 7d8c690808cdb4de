"""One request until it has arrived: bounded in attempts, in time, and in what is read of an answer.

| answer | then |
|---|---|
| 2xx | it has arrived |
| 408, 425, 429, 5xx, none | again, after a pause that doubles, or that the answer names (`Retry-After`, seconds) |
| anything else, redirections included | a dead end: the same request will not do better |

Boundary: HTTP through httpx (extra `registry`), the clock.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from aicache.privacy.errors import LocalError
from aicache.streams.webhook.event import Event, signed_headers

ATTEMPTS_MAX = 7
TIMEOUT_S = 5.0
"""For connecting, for sending and for each part of an answer's head."""
PAUSE_S = 0.5
PAUSE_MAX_S = 20.0
AGAIN = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Sent:
    """How it ended: whether it has arrived, after how many attempts, and the last answer (`refused-404`, `unreachable`)."""

    arrived: bool
    attempts: int
    answer: str


class Sender:
    """Sends events to one address; use it as a context manager.

    Args:
        url: where to; may be a secret itself, so that it stands in no log and no error.
        secret: for the signatures.
        pause: waits some seconds, less if the service is told to stop.
        clock: Unix seconds.
    """

    def __init__(
        self,
        url: str,
        secret: bytes,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        try:
            import httpx
        except ImportError as error:
            raise LocalError(
                "a webhook needs the extra 'registry': pip install 'aicache[registry]'", needed="httpx"
            ) from error
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL:
            raise LocalError("the webhook's address is no URL", got="another form", needed="https://…") from None
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise LocalError("the webhook's address is no URL", got=self._url.scheme, needed="https://… or http://…")
        self._secret = secret
        self._pause = pause
        self._clock = clock
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs addresses
        self._errors = httpx.HTTPError
        self._http = httpx.Client(timeout=TIMEOUT_S, follow_redirects=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def send(self, event: Event, stop: Callable[[], bool] = lambda: False) -> Sent | None:
        """Send an event until it has arrived or will not; None if told to stop before that is known."""
        answer, pause_s = "", PAUSE_S
        for attempt in range(1, ATTEMPTS_MAX + 1):
            code, asked_s = self._try(event)
            if 200 <= code < 300:
                return Sent(True, attempt, str(code))
            answer = f"refused-{code}" if code else "unreachable"
            if code and code < 500 and code not in AGAIN:
                return Sent(False, attempt, answer)
            if attempt < ATTEMPTS_MAX:
                self._pause(min(max(pause_s, asked_s), PAUSE_MAX_S))
                pause_s *= 2
                if stop():
                    return None
        return Sent(False, ATTEMPTS_MAX, answer)

    def _try(self, event: Event) -> tuple[int, float]:
        """One attempt: the status, 0 where there is none, and the pause that the answer asks for."""
        headers = signed_headers(event, self._secret, int(self._clock()))
        try:
            # Streamed and not read: whatever the body holds, and however much it is, only the head counts.
            with self._http.stream("POST", self._url, content=event.body, headers=headers) as response:
                asked = response.headers.get("retry-after", "")
                return response.status_code, float(asked) if asked.isascii() and asked.isdigit() else 0.0
        except self._errors:
            return 0, 0.0
