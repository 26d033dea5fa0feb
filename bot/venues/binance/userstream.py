"""Which stream carries a client's own events, server side: the life of a listen key.

Sources: "User data streams" of the USD-M documents (a key is valid for 60 minutes, POST
returns the one that lives and extends it) and of the spot WebSocket API, where a connection
subscribes with a signature and the stream ends with `eventStreamTerminated`. Times are ms.
"""

from hashlib import sha256
from typing import Final

import msgspec

LIFE_MS: Final = 3_600_000
SUBSCRIPTION: Final = 0  # a connection's first, and here its only one


class UserStream:
    """The stream of one API key; `name` is what messages are published under."""

    def __init__(self, venue: str, key: str) -> None:
        self.spot = venue == "binance-spot"
        self._key = key
        self._turn = 0
        self._ends = 0

    @property
    def name(self) -> str:
        """The listen key; on spot a name that nobody sees."""
        return sha256(f"{self._key}/{self._turn}".encode()).hexdigest()

    def lives(self, now: int) -> bool:
        """Whether events are sent; on spot always."""
        return self.spot or now < self._ends

    def open(self, now: int) -> str:
        """POST: the key that lives, or a new one, good for an hour."""
        if not self.lives(now):
            self._turn += 1
        self._ends = now + LIFE_MS
        return self.name

    def extend(self, now: int) -> bool:
        """PUT: another hour; False when there is no key."""
        if not self.lives(now):
            return False
        self._ends = now + LIFE_MS
        return True

    def end(self, now: int) -> tuple[str, bytes]:
        """The key expires: the stream's last message, and the name that it goes to."""
        name, self._ends = self.name, 0
        if self.spot:
            self._turn += 1  # the next one begins at once; a listen key has to be opened
            return name, wrapped(b'{"e":"eventStreamTerminated","E":%d}' % now)
        return name, b'{"e":"listenKeyExpired","E":%d,"listenKey":"%b"}' % (now, name.encode())

    def overdue(self, now: int) -> bool:
        """Whether a key that was opened has come to its end."""
        return not self.spot and 0 < self._ends <= now

    def frame(self, event: dict[str, object]) -> bytes:
        """An event as the stream carries it."""
        raw = msgspec.json.encode(event)
        return wrapped(raw) if self.spot else raw

    def __repr__(self) -> str:
        return f"<UserStream {self.name[:8]} ends={self._ends}>"


def wrapped(raw: bytes) -> bytes:
    """A spot event with the number of its subscription."""
    return b'{"subscriptionId":%d,"event":%b}' % (SUBSCRIPTION, raw)
