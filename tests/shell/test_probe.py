import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.units import NS_PER_MS
from bot.shell.probe import EDGES, PERIOD_NS, Durations, probe_loop
from tests.shell.wire import PATIENCE_S


def durations(*found: int) -> Durations:
    counted = Durations()
    for ns in found:
        counted.add(ns)
    return counted


def test_nothing_has_no_quantile() -> None:
    assert durations().quantile(0.5) is None
    assert repr(durations()) == "<Durations n=0 p50=None greatest=0>"


def test_less_than_nothing_counts_as_nothing() -> None:
    counted = durations(-5)
    assert (counted.n, counted.greatest, counted.quantile(1.0)) == (1, 0, 0)


@given(st.lists(st.integers(1_000, 10**11), min_size=1), st.sampled_from([0.5, 0.99, 0.999, 1.0]))
def test_a_quantile_is_off_by_26_percent_at_most(found: list[int], share: float) -> None:
    counted = durations(*found)
    ordered = sorted(found)
    at = next(i for i in range(len(ordered)) if i + 1 >= share * len(ordered))
    quantile = counted.quantile(share)
    assert quantile is not None
    assert ordered[at] <= quantile <= ordered[at] * 1.26
    assert counted.greatest == ordered[-1]


def test_beyond_the_last_edge_the_greatest_is_told() -> None:
    assert durations(5, EDGES[-1] * 7).quantile(1.0) == EDGES[-1] * 7


class Late:
    """A clock of an event loop that is 3 ms late each time."""

    def __init__(self) -> None:
        self.reads = 0

    def now(self) -> int:
        self.reads += 1
        turns = self.reads // 2
        return turns * (PERIOD_NS + 3 * NS_PER_MS)


async def test_the_probe_tells_lateness_until_cancelled() -> None:
    told: list[int] = []
    twice = asyncio.Event()

    def tell(ns: int) -> None:
        told.append(ns)
        if len(told) == 2:
            twice.set()

    probe = asyncio.create_task(probe_loop(Late(), tell))  # type: ignore[arg-type]
    async with asyncio.timeout(PATIENCE_S):
        await twice.wait()
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert told == [3 * NS_PER_MS] * 2
