"""Chance in batches: numpy draws thousands of numbers at once, the flow takes one at a time."""

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

BATCH: Final = 4096

Drawn = TypeVar("Drawn")


class Draws:
    """Endless streams of numbers that only a seed decides.

    `uniform` lies in [0, 1), `waits` is exponential of mean 1, `normal` standard normal,
    `shape` log-normal with median 1 and the given spread of its logarithm.
    """

    __slots__ = ("generator", "normal", "shape", "uniform", "waits")

    def __init__(self, seed: int, log_spread: float) -> None:
        generator = Generator(PCG64(seed))
        self.generator = generator
        self.uniform = _endless(lambda: generator.random(BATCH).tolist())
        self.waits = _endless(lambda: generator.standard_exponential(BATCH).tolist())
        self.normal = _endless(lambda: generator.standard_normal(BATCH).tolist())
        self.shape: Iterator[float] = _endless(
            lambda: np.exp(log_spread * generator.standard_normal(BATCH)).tolist()
        )

    def distances(
        self, near: NDArray[np.int64], far: NDArray[np.int64], rates: NDArray[np.float64]
    ) -> Iterator[tuple[int, int]]:
        """(zone, distance): a zone by its rate, then a distance in [near, far) of the zone."""
        steps = np.cumsum(rates) / rates.sum()
        steps[-1] = 1.0

        def batch() -> list[tuple[int, int]]:
            zones = np.searchsorted(steps, self.generator.random(BATCH), side="right")
            places = self.generator.integers(near[zones], far[zones])
            return list(zip(zones.tolist(), places.tolist(), strict=True))

        return _endless(batch)


def _endless(batch: Callable[[], list[Drawn]]) -> Iterator[Drawn]:
    while True:
        yield from batch()
