from collections import Counter

import pytest

from bot.domain.units import NS_PER_MS
from bot.shell import eventfaults
from bot.shell.eventfaults import EventCounts, EventFaults
from tests.shell.wire import Clock

KEY = "listen"


class Stage:
    """Faulty events, with what came through, as numbers."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.came: list[int] = []
        self.cuts = 0
        self.events = EventFaults(self.clock, self._take, self._cut)

    def _take(self, key: str, raw: bytes) -> None:
        assert key == KEY
        self.came.append(int(raw))

    def _cut(self) -> None:
        self.cuts += 1

    def put(self, *numbers: int) -> list[int]:
        for number in numbers:
            self.events.publish(KEY, b"%d" % number)
        return self.came

    def after(self, ms: float) -> list[int]:
        self.clock.now += round(ms * NS_PER_MS)
        self.events.tend(self.clock.now)
        return self.came


def test_without_a_fault_events_pass_at_once() -> None:
    stage = Stage()
    assert stage.put(1, 2) == [1, 2]
    assert stage.events.counts() == EventCounts(2, 0, 0)
    assert repr(stage.events).startswith("<EventFaults off")


def test_all_are_late_by_as_much_and_in_order() -> None:
    stage = Stage()
    stage.events.delay(200)
    stage.put(1)
    stage.after(100)
    assert stage.put(2) == []
    assert stage.events.counts().held == 2
    assert stage.after(99) == []
    assert stage.after(1) == [1]
    stage.events.delay(0)  # what comes now does not overtake
    assert stage.put(3) == [1]
    assert stage.after(100) == [1, 2, 3]


def test_healing_sends_in_order_what_is_under_way() -> None:
    stage = Stage()
    stage.events.delay(1_000)
    stage.put(1, 2)
    stage.events.heal()
    assert stage.came == [1, 2]
    assert stage.put(3) == [1, 2, 3]
    stage.events.delay(10)  # the old times are forgotten
    stage.put(4)
    assert stage.after(10) == [1, 2, 3, 4]


def test_each_is_duplicated_as_often_as_asked() -> None:
    stage = Stage()
    stage.events.duplicate(2, times=1)
    assert stage.put(1, 2) == [1, 1, 1, 2]
    stage.events.duplicate()
    assert stage.put(3, 4) == [1, 1, 1, 2, 3, 3, 4, 4]


def test_a_late_duplicate_does_not_hold_up_the_others() -> None:
    stage = Stage()
    stage.events.duplicate(times=1, later_ms=40 * 60_000)
    assert stage.put(1, 2) == [1, 2]
    assert stage.after(40 * 60_000 - 1) == [1, 2]
    assert stage.after(1) == [1, 2, 1]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("window", [2, 4])
def test_the_order_changes_within_each_window_only(window: int, seed: int) -> None:
    stage = Stage()
    stage.events.shuffle(window, seed=seed)
    numbers = list(range(3 * window))
    came = list(stage.put(*numbers))
    for start in range(0, 3 * window, window):
        expected = numbers[start : start + window]
        assert came[start : start + window] != expected
        assert sorted(came[start : start + window]) == expected
    again = Stage()
    again.events.shuffle(window, seed=seed)
    assert again.put(*numbers) == came


def test_a_window_that_does_not_fill_opens_after_a_while() -> None:
    stage = Stage()
    stage.events.shuffle(10, within_ms=50)
    stage.put(1, 2)
    assert stage.events.counts().held == 2
    assert stage.after(49) == []
    assert Counter(stage.after(1)) == Counter([1, 2])
    stage.put(3)
    stage.events.heal()
    assert stage.came[-1] == 3


def test_the_next_ones_are_dropped() -> None:
    stage = Stage()
    stage.events.drop(2)
    assert stage.put(1, 2, 3) == [3]
    assert stage.events.counts().lost == 2


def test_silence_lasts_until_healed_and_loses_what_would_be_said() -> None:
    stage = Stage()
    stage.events.silence()
    stage.events.drop(1)
    assert stage.put(1, 2) == []
    assert stage.after(1e6) == []
    stage.events.heal()
    assert stage.put(3) == [3]
    assert stage.events.counts() == EventCounts(1, 2, 0)


def test_private_sockets_are_cut_and_may_stay_shut() -> None:
    stage = Stage()
    stage.events.cut()
    assert (stage.cuts, stage.events.shut) == (1, False)
    stage.events.cut(stay_shut=True)
    assert (stage.cuts, stage.events.shut) == (2, True)
    stage.events.heal()
    assert not stage.events.shut


def test_what_is_under_way_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventfaults, "HELD_MAX", 2)
    stage = Stage()
    stage.events.delay(10)
    stage.put(1, 2, 3)
    assert stage.events.counts() == EventCounts(0, 1, 2)
    assert stage.after(10) == [2, 3]
    stage.put(4)
    stage.events.close()
    assert stage.after(10) == [2, 3]
    assert stage.events.counts() == EventCounts(2, 2, 0)


def test_numbers_out_of_range_are_refused() -> None:
    events = Stage().events
    for wrong in (
        lambda: events.delay(-1),
        lambda: events.delay(3_600_001),
        lambda: events.duplicate(0),
        lambda: events.duplicate(times=0),
        lambda: events.shuffle(1),
        lambda: events.drop(0),
    ):
        with pytest.raises(ValueError, match=r"must be|is no time"):
            wrong()
    assert repr(events).startswith("<EventFaults off")
