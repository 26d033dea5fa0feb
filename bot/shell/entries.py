"""What the gateway remembers of each own order: when it was touched, and what is asked of it."""

import asyncio
from collections import OrderedDict
from typing import Final

ENTRIES_MAX: Final = 16_384


class Entry:
    """One own order on its way between us and the venue; times in ns, 0 is never."""

    __slots__ = (
        "accepted_at",
        "amended_at",
        "answered",
        "asking",
        "cancel_asked",
        "decided_at",
        "epoch",
        "heard_at",
        "order_id",
        "sent_at",
        "touched_at",
        "venue_id",
        "withdrawn",
    )

    def __init__(self, order_id: str, decided_at: int, epoch: int) -> None:
        self.order_id = order_id
        self.decided_at = decided_at  # of the latest placement or amend
        self.epoch = epoch
        self.sent_at = 0  # when the placement's bytes were written
        self.touched_at = decided_at  # anything sent or heard
        self.accepted_at = 0  # by a reply to a request
        self.amended_at = 0  # when an amend was last asked for
        self.heard_at = 0  # from the private stream
        self.venue_id = ""
        self.withdrawn = False  # whatever has not been written must not be
        self.cancel_asked = False
        self.asking = False  # somebody asks the venue what became of it
        self.answered = asyncio.Event()  # the placement got its answer, whatever it was

    def __repr__(self) -> str:
        return f"<Entry {self.order_id} venue={self.venue_id or '?'} asking={self.asking}>"


class Entries:
    """The latest `ENTRIES_MAX` own orders."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def add(self, entry: Entry) -> None:
        """Remember an entry, forgetting the oldest where there are too many."""
        self._entries[entry.order_id] = entry
        if len(self._entries) > ENTRIES_MAX:
            self._entries.popitem(last=False)

    def get(self, order_id: str) -> Entry | None:
        """The entry of this id, if it is remembered."""
        return self._entries.get(order_id)

    def newest(self, limit: int) -> list[Entry]:
        """The last `limit` entries, the newest first."""
        found: list[Entry] = []
        for entry in reversed(self._entries.values()):
            if len(found) == limit:
                break
            found.append(entry)
        return found

    def __len__(self) -> int:
        return len(self._entries)
