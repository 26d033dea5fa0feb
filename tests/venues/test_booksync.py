import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bot.venues.booksync import (
    BACKOFF_FIRST_NS,
    BACKOFF_MAX_NS,
    BUFFERED_MAX,
    CHAIN_FIELDS,
    FUTURES,
    GAP,
    LAST_ID,
    NEXT,
    OLD,
    OLD_RUN,
    OLD_RUN_MAX,
    RULE,
    SNAPSHOT_TIMEOUT_NS,
    SPOT,
    SYNCED,
    BookSync,
    Delta,
    Splice,
    admit,
)


def delta(first: int, last: int, prev: int = -1) -> Delta:
    return Delta(first, last, prev, f"{first}-{last}")


def spans(splice: Splice | None) -> list[tuple[int, int]] | None:
    return None if splice is None else [(d.first_id, d.last_id) for d in splice.deltas]


def chain(rule_: int, last: int, old_run: int = 0) -> Any:
    made = np.zeros(CHAIN_FIELDS, np.int64)
    made[[SYNCED, LAST_ID, RULE, OLD_RUN]] = 1, last, rule_, old_run
    return made


def buffering(rule_: int, *deltas: Delta) -> BookSync:
    sync = BookSync(rule_)
    for d in deltas:
        assert sync.delta(d) is None
    return sync


@pytest.mark.parametrize(
    ("rule_", "last", "event", "verdict"),
    [
        (SPOT, 10, (11, 15, -1), NEXT),
        (SPOT, 10, (11, 11, -1), NEXT),
        (SPOT, 10, (8, 12, -1), NEXT),  # overlaps: quantities are absolute
        (SPOT, 10, (12, 15, -1), GAP),
        (SPOT, 10, (8, 10, -1), OLD),
        (SPOT, 10, (3, 5, -1), OLD),
        (FUTURES, 10, (14, 18, 10), NEXT),  # ids between prev and first belong to nobody
        (FUTURES, 10, (14, 18, 12), GAP),
        (FUTURES, 10, (11, 18, 9), GAP),
        (FUTURES, 10, (11, 18, -1), GAP),
        (FUTURES, 10, (5, 10, 3), OLD),
        (FUTURES, 10, (4, 8, 3), OLD),
    ],
)
def test_verdict(rule_: int, last: int, event: tuple[int, int, int], verdict: int) -> None:
    state = chain(rule_, last)
    assert admit(state, *event) == verdict
    assert state[LAST_ID] == (event[1] if verdict == NEXT else last)
    assert state[OLD_RUN] == (verdict == OLD)


@pytest.mark.parametrize("rule_", [SPOT, FUTURES])
def test_ids_that_began_anew_are_a_gap_in_the_end(rule_: int) -> None:
    state = chain(rule_, 10**12)
    for i in range(OLD_RUN_MAX):
        assert admit(state, i + 2, i + 2, i + 1) == OLD
    assert admit(state, 500, 500, 499) == GAP
    assert state[LAST_ID] == 10**12


@pytest.mark.parametrize("rule_", [SPOT, FUTURES])
def test_a_right_event_ends_a_run_of_old_ones(rule_: int) -> None:
    state = chain(rule_, 100)
    for i in range(OLD_RUN_MAX * 3):
        assert admit(state, 3, 4, 2) == OLD
        if i % OLD_RUN_MAX == OLD_RUN_MAX - 1:
            last = int(state[LAST_ID])
            assert admit(state, last + 1, last + 3, last) == NEXT
            assert state[OLD_RUN] == 0


@given(
    rule_=st.sampled_from([SPOT, FUTURES]),
    last=st.integers(0, 40),
    old_run=st.integers(0, OLD_RUN_MAX),
    ids=st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(-1, 40)),
)
@settings(deadline=None, max_examples=300)
def test_admit_compiled_and_plain_agree(
    rule_: int, last: int, old_run: int, ids: tuple[int, int, int]
) -> None:
    compiled, plain = chain(rule_, last, old_run), chain(rule_, last, old_run)
    assert admit(compiled, *ids) == admit.py_func(plain, *ids)
    np.testing.assert_array_equal(compiled, plain)


SPOT_CHAIN = (delta(5, 9), delta(10, 12), delta(13, 20))
FUTURES_CHAIN = (delta(5, 9, 3), delta(11, 12, 9), delta(15, 20, 12))


@pytest.mark.parametrize(
    ("rule_", "snapshot", "kept"),
    [
        (SPOT, 3, None),  # too old: 4 is missing
        (SPOT, 4, 3),
        (SPOT, 5, 3),
        (SPOT, 8, 3),
        (SPOT, 9, 2),  # the first is wholly old
        (SPOT, 11, 2),
        (SPOT, 12, 1),
        (SPOT, 19, 1),
        (FUTURES, 4, None),
        (FUTURES, 5, 3),
        (FUTURES, 8, 3),
        (FUTURES, 9, 3),  # an event that ends at the snapshot bridges
        (FUTURES, 10, None),  # between two events: no event holds it
        (FUTURES, 11, 2),
        (FUTURES, 12, 2),
        (FUTURES, 13, None),
        (FUTURES, 20, 1),
    ],
)
def test_snapshot_meets_the_buffer(rule_: int, snapshot: int, kept: int | None) -> None:
    deltas = SPOT_CHAIN if rule_ == SPOT else FUTURES_CHAIN
    sync = buffering(rule_, *deltas)
    assert sync.take_snapshot_request(0)
    splice = sync.snapshot(snapshot, "body", 7)
    if kept is None:
        assert splice is None
        assert not sync.synced
        assert sync.resyncs == 0
    else:
        assert splice == Splice("body", list(deltas[-kept:]))
        assert sync.synced
        assert sync.chain[LAST_ID] == 20
        assert sync.resyncs == 1
        assert sync.deadline() is None
        assert not sync.take_snapshot_request(10**15)
        assert repr(sync) == "<BookSync synced u=20>"


@pytest.mark.parametrize(
    ("rule_", "snapshot", "wrong", "right"),
    [
        (SPOT, 20, None, delta(21, 25)),
        (SPOT, 30, delta(21, 30), delta(31, 33)),
        (SPOT, 22, delta(21, 22), delta(23, 23)),
        (FUTURES, 21, None, delta(21, 25, 20)),
        (FUTURES, 30, delta(22, 29, 20), delta(30, 33, 29)),
    ],
)
def test_a_newer_snapshot_is_held(
    rule_: int, snapshot: int, wrong: Delta | None, right: Delta
) -> None:
    sync = buffering(rule_, *(SPOT_CHAIN if rule_ == SPOT else FUTURES_CHAIN))
    assert sync.take_snapshot_request(0)
    assert sync.snapshot(snapshot, "body", 7) is None
    assert f"held={snapshot}" in repr(sync)
    assert sync.deadline() is None
    assert not sync.take_snapshot_request(10**15)
    if wrong is not None:
        assert sync.delta(wrong) is None
        assert not sync.synced
    assert sync.delta(right) == Splice("body", [right])
    assert sync.synced
    assert sync.chain[LAST_ID] == right.last_id


@pytest.mark.parametrize("rule_", [SPOT, FUTURES])
def test_a_held_snapshot_that_was_jumped_over_is_dropped(rule_: int) -> None:
    sync = BookSync(rule_)
    assert sync.snapshot(20, "body", 7) is None
    assert sync.delta(delta(30, 35, 25)) is None
    assert not sync.synced
    assert "held" not in repr(sync)
    assert sync.take_snapshot_request(8)


def test_a_snapshot_that_is_too_old_backs_off() -> None:
    sync = buffering(SPOT, delta(10, 12))
    now = 1_000
    wait = BACKOFF_FIRST_NS
    for _ in range(40):
        assert sync.take_snapshot_request(now)
        assert not sync.take_snapshot_request(now + 1)
        assert sync.snapshot(3, "old", now) is None
        assert sync.deadline() == now + wait
        assert not sync.take_snapshot_request(now + wait - 1)
        now += wait
        wait = min(wait * 2, BACKOFF_MAX_NS)
    assert wait == BACKOFF_MAX_NS
    assert sync.snapshot(11, "body", now) is not None
    sync.lose()
    assert sync.delta(delta(20, 22)) is None
    assert sync.snapshot(3, "old", now) is None
    assert sync.deadline() == now + BACKOFF_FIRST_NS


def test_a_snapshot_that_never_comes_is_asked_for_again() -> None:
    sync = BookSync(SPOT)
    assert sync.deadline() is None
    assert not sync.take_snapshot_request(0)  # nothing buffered: the snapshot could not be bridged
    assert sync.delta(delta(1, 2)) is None
    assert sync.deadline() == 0
    assert sync.take_snapshot_request(100)
    assert sync.deadline() == 100 + SNAPSHOT_TIMEOUT_NS
    assert not sync.take_snapshot_request(99 + SNAPSHOT_TIMEOUT_NS)
    assert sync.take_snapshot_request(100 + SNAPSHOT_TIMEOUT_NS)
    assert sync.deadline() == 100 + 2 * SNAPSHOT_TIMEOUT_NS


def test_a_snapshot_of_a_synced_book_changes_nothing() -> None:
    sync = buffering(SPOT, *SPOT_CHAIN)
    assert sync.snapshot(9, "body", 0) is not None
    before = sync.chain.copy()
    assert sync.snapshot(15, "again", 1) is None
    np.testing.assert_array_equal(sync.chain, before)
    assert sync.resyncs == 1


def test_the_buffer_keeps_the_newest() -> None:
    sync = buffering(SPOT, *(delta(i, i) for i in range(1, BUFFERED_MAX + 3)))
    assert sync.snapshot(1, "old", 0) is None
    splice = sync.snapshot(2, "body", 0)
    assert splice is not None
    assert len(splice.deltas) == BUFFERED_MAX
    assert (splice.deltas[0].first_id, splice.deltas[-1].last_id) == (3, BUFFERED_MAX + 2)


@pytest.mark.parametrize(
    ("rule_", "deltas", "snapshot", "expected"),
    [
        # A break within the buffer forgets what stood before it.
        (SPOT, [delta(1, 5), delta(8, 9), delta(10, 11)], 7, [(8, 9), (10, 11)]),
        (SPOT, [delta(1, 5), delta(8, 9)], 3, None),
        (FUTURES, [delta(1, 5, 0), delta(8, 9, 6), delta(10, 11, 9)], 8, [(8, 9), (10, 11)]),
        (FUTURES, [delta(1, 5, 0), delta(8, 9, 6)], 3, None),
        # Duplicates and old events are not kept.
        (SPOT, [delta(1, 5), delta(1, 5), delta(6, 7), delta(1, 5)], 0, [(1, 5), (6, 7)]),
        (FUTURES, [delta(1, 5, 0), delta(1, 5, 0), delta(6, 7, 5)], 3, [(1, 5), (6, 7)]),
        # Swapped: the later one came first, so the earlier one is missing.
        (SPOT, [delta(1, 5), delta(8, 9), delta(6, 7), delta(10, 12)], 3, None),
        (SPOT, [delta(1, 5), delta(8, 9), delta(6, 7), delta(10, 12)], 7, [(8, 9), (10, 12)]),
        (FUTURES, [delta(1, 5, 0), delta(8, 9, 7), delta(6, 7, 5)], 3, None),
    ],
)
def test_buffer_keeps_one_chain(
    rule_: int, deltas: list[Delta], snapshot: int, expected: list[tuple[int, int]] | None
) -> None:
    assert spans(buffering(rule_, *deltas).snapshot(snapshot, "body", 0)) == expected


@pytest.mark.parametrize("rule_", [SPOT, FUTURES])
def test_ids_that_began_anew_while_buffering(rule_: int) -> None:
    """A stream restarted with small ids gets its book in the end."""
    sync = buffering(rule_, delta(10**12, 10**12, 10**12 - 1))
    for i in range(2, 10 * OLD_RUN_MAX):
        assert sync.delta(delta(i, i, i - 1)) is None
    last = 10 * OLD_RUN_MAX - 1
    splice = sync.snapshot(last - 1, "body", 0)
    assert splice is not None, "the buffer still holds an event of the ids before"
    assert sync.chain[LAST_ID] == last


def test_losing_forgets_everything() -> None:
    sync = buffering(SPOT, *SPOT_CHAIN)
    assert sync.snapshot(9, "body", 0) is not None
    sync.lose()
    assert not sync.synced
    assert repr(sync) == "<BookSync buffering 0 failures=0>"
    assert sync.deadline() is None
    assert sync.snapshot(50, "held", 0) is None
    sync.lose()
    assert sync.delta(delta(51, 52)) is None


class Venue:
    """A book of five prices; every update has an id and every event holds several."""

    def __init__(self, rule_: int) -> None:
        self.rule = rule_
        self.id = 100
        self.last = 100  # of the last event
        self.book: dict[int, int] = {}
        self.at: dict[int, dict[int, int]] = {100: {}}  # content by id
        self.ends = {100}

    def emit(self, updates: list[tuple[int, int]], skipped: int) -> Delta:
        """One event; futures ids may skip numbers before it."""
        for _ in range(skipped if self.rule == FUTURES else 0):
            self.id += 1
            self.at[self.id] = dict(self.book)
        first = self.id + 1
        for key, value in updates:
            self.id += 1
            self.book[key] = value
            self.at[self.id] = dict(self.book)
        made = Delta(first, self.id, self.last if self.rule == FUTURES else -1, dict(updates))
        self.last = self.id
        self.ends.add(self.id)
        return made


class Chain(RuleBasedStateMachine):
    """A faulty line between a venue and a `BookSync`; whenever synced, the book is right."""

    rule_ = SPOT

    def __init__(self) -> None:
        super().__init__()
        self.venue = Venue(self.rule_)
        self.sync = BookSync(self.rule_)
        self.mine: dict[int, int] = {}
        self.sent: list[Delta] = []
        self.now = 0

    def _splice(self, splice: Splice | None) -> None:
        if splice is not None:
            self.mine = dict(splice.snapshot)
            for d in splice.deltas:
                self.mine.update(d.body)

    def _arrive(self, d: Delta) -> None:
        if self.sync.synced:
            verdict = admit(self.sync.chain, d.first_id, d.last_id, d.prev_id)
            if verdict == NEXT:
                self.mine.update(d.body)
            if verdict != GAP:
                return
            self.sync.lose()
        self._splice(self.sync.delta(d))

    def _emit(self, seed: int) -> Delta:
        draw = random.Random(seed)
        updates = [(draw.randrange(5), draw.randrange(9)) for _ in range(draw.randint(1, 4))]
        d = self.venue.emit(updates, draw.choice([0, 0, 1, 5]))
        self.sent.append(d)
        return d

    @rule(seeds=st.lists(st.integers(0, 2**32), min_size=1, max_size=5))
    def events(self, seeds: list[int]) -> None:
        for seed in seeds:
            self._arrive(self._emit(seed))

    @rule(seed=st.integers(0, 2**32))
    def dropped(self, seed: int) -> None:
        self._emit(seed)

    @rule(seeds=st.tuples(st.integers(0, 2**32), st.integers(0, 2**32)))
    def swapped(self, seeds: tuple[int, int]) -> None:
        first, second = map(self._emit, seeds)
        self._arrive(second)
        self._arrive(first)

    @rule(back=st.integers(1, 10))
    def duplicate(self, back: int) -> None:
        if back <= len(self.sent):
            self._arrive(self.sent[-back])

    @rule(back=st.integers(0, 25))
    def snapshot(self, back: int) -> None:
        """Taken at any id, also amid an event; the oldest ones are useless."""
        at = max(self.venue.id - back, 100)
        self.now += 10**9
        self._splice(self.sync.snapshot(at, self.venue.at[at], self.now))

    @rule()
    def lose(self) -> None:
        self.sync.lose()

    @invariant()
    def right_when_synced(self) -> None:
        if self.sync.synced:
            at = int(self.sync.chain[LAST_ID])
            assert at in self.venue.ends
            assert self.mine == self.venue.at[at]
        else:
            assert self.sync.deadline() is None or self.sync.deadline() <= self.now + 10**10

    def teardown(self) -> None:
        """After the faults a fresh snapshot always gives a book."""
        self._arrive(self._emit(1))
        self._arrive(self._emit(2))
        self._splice(self.sync.snapshot(self.venue.id, self.venue.at[self.venue.id], self.now))
        self._arrive(self._emit(3))
        if self.rule_ == SPOT:
            assert self.sync.synced
        self.right_when_synced()


class FuturesChain(Chain):
    rule_ = FUTURES


_SETTINGS = settings(
    deadline=None,
    max_examples=60,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow],
)
TestSpotChain = Chain.TestCase
TestSpotChain.settings = _SETTINGS
TestFuturesChain = FuturesChain.TestCase
TestFuturesChain.settings = _SETTINGS
