"""What the gateway remembers of orders is bounded, and the newest comes first."""

import pytest

from bot.shell import entries
from bot.shell.entries import Entries, Entry


def test_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "ENTRIES_MAX", 3)
    known = Entries()
    for n in range(5):
        known.add(Entry(f"mm-{n}", n, 0))
    assert len(known) == 3
    assert known.get("mm-1") is None
    assert [entry.order_id for entry in known.newest(2)] == ["mm-4", "mm-3"]


def test_an_entry_begins_unsent_and_unanswered() -> None:
    entry = Entry("mm-1", 5, 2)
    assert (entry.sent_at, entry.accepted_at, entry.heard_at) == (0, 0, 0)
    assert entry.touched_at == 5
    assert not entry.answered.is_set()
    assert "mm-1" in repr(entry)
