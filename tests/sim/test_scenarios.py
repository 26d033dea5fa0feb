"""A scenario's schedule: which phase rules when, and that it repeats."""

import pytest

from bot.domain.units import NS_PER_S
from bot.sim.scenarios import SCENARIOS, Phase, Scenario

QUIET, LOUD = Phase(2.0), Phase(0.5, drift_bp=1.0)
TWO = Scenario("two", (QUIET, LOUD))


@pytest.mark.parametrize(
    ("elapsed", "phase", "end"),
    [
        (0.0, QUIET, 2.0),
        (1.999, QUIET, 2.0),
        (2.0, LOUD, 2.5),
        (2.499, LOUD, 2.5),
        (2.5, QUIET, 4.5),
        (7.2, LOUD, 7.5),
    ],
)
def test_phases_follow_each_other_and_repeat(elapsed: float, phase: Phase, end: float) -> None:
    assert TWO.at(round(elapsed * NS_PER_S)) == (phase, round(end * NS_PER_S))


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_found_by_its_name_and_starts_calm(name: str) -> None:
    scenario = SCENARIOS[name]
    assert scenario.name == name
    phase, end = scenario.at(0)
    assert phase == Phase(phase.seconds)
    assert end == round(phase.seconds * NS_PER_S) > 0


def test_only_calm_stays_calm() -> None:
    assert [name for name, one in SCENARIOS.items() if len(one.phases) == 1] == ["calm"]
    for one in SCENARIOS.values():
        assert abs(sum(phase.drift_bp * phase.seconds for phase in one.phases)) < 1e-9
