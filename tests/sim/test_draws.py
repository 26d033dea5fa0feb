"""Streams of chance: their laws, and that a seed decides them."""

from itertools import islice

import numpy as np
import pytest

from bot.sim.draws import BATCH, Draws

N = 5 * BATCH


def test_streams_have_their_laws() -> None:
    draws = Draws(1, log_spread=2.0)
    uniform, waits, normal, shape = (
        np.fromiter(islice(stream, N), float)
        for stream in (draws.uniform, draws.waits, draws.normal, draws.shape)
    )
    assert 0.0 <= uniform.min() < 0.01 < 0.99 < uniform.max() < 1.0
    assert waits.mean() == pytest.approx(1.0, abs=0.05)
    assert (normal.mean(), normal.std()) == pytest.approx((0.0, 1.0), abs=0.05)
    assert np.median(shape) == pytest.approx(1.0, abs=0.1)
    assert np.log(shape).std() == pytest.approx(2.0, abs=0.1)


def test_distances_lie_in_zones_visited_by_their_rates() -> None:
    zones = np.array([0, 1, 10]), np.array([1, 10, 50]), np.array([1.0, 2.0, 5.0])
    drawn = np.array(list(islice(Draws(1, 1.0).distances(*zones), N)))
    zone, distance = drawn.T
    assert np.bincount(zone) / N == pytest.approx([0.125, 0.25, 0.625], abs=0.02)
    assert (zones[0][zone] <= distance).all()
    assert (distance < zones[1][zone]).all()
    assert len(np.unique(distance)) == 50


def test_a_seed_decides_everything() -> None:
    same, again, other = (list(islice(Draws(seed, 1.0).normal, BATCH + 1)) for seed in (1, 1, 2))
    assert same == again != other
