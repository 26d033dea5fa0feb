"""Time moves forward only, whatever the wall clock does; ids and chance do not repeat."""

import time

from bot.shell.clock import Clock


def test_now_is_the_epoch_and_never_goes_back():
    before = time.time_ns()
    clock = Clock()
    stamps = [clock.now() for _ in range(10_000)]
    assert stamps == sorted(stamps)
    # The wall clock may be slewed meanwhile, but not by a second.
    assert before - 10**9 < stamps[0] < time.time_ns() + 10**9


def test_a_step_of_the_wall_clock_is_not_seen(monkeypatch):
    clock = Clock()
    before = clock.now()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert clock.now() >= before


def test_jitter_is_spread_over_the_unit_interval():
    clock = Clock()
    drawn = [clock.jitter() for _ in range(1_000)]
    assert all(0.0 <= value < 1.0 for value in drawn)
    assert min(drawn) < 0.1
    assert max(drawn) > 0.9


def test_run_ids_are_unique_hex():
    clock = Clock()
    ids = {clock.run_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in ids)


def test_repr_tells_the_time():
    assert repr(Clock()).startswith("<Clock at 1")
