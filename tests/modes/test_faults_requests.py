"""The bot on the simulated exchange while requests and their answers go wrong (RISK B.2)."""

from pathlib import Path

import pytest

from bot.domain.units import Side
from tests.modes.trading import trading


@pytest.mark.parametrize("venue", ["binance-usdm", "binance-spot"])
async def test_a_calm_run_agrees_with_the_venue(tmp_path: Path, venue: str) -> None:
    async with trading(tmp_path, venue=venue) as stage:
        await stage.converge()
        stage.venue.fill(Side.BUY, 5)
        await stage.until(lambda: stage.engine.ledger.position_lots == 5, 5.0)
        await stage.converge()
