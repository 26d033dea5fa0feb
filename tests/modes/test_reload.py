"""What a changed file may do to a run: tighten. Everything else waits, and is named."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bot.core.gate import Gate
from bot.domain.events import LimitsTightened
from bot.domain.params import RiskParams
from bot.modes.relations import ORDERED
from bot.modes.reload import LOWER_IS_TIGHTER, Reload, change
from bot.modes.settings import KEYS, ConfigError, Loaded, load
from bot.shell.clock import Clock
from bot.shell.inbox import Inbox
from tests.shell.wire import eventually

CONFIG = Path(__file__).resolve().parents[2] / "config" / "paper-binance-usdm.yaml"


def config(*sets: str) -> Loaded:
    return load(CONFIG, env={}, sets=sets)


RUNNING = config()
RISK = RUNNING.params.risk


def test_every_tightened_key_is_a_limit_of_the_core() -> None:
    assert all(f"risk.{key}" in KEYS for key in LOWER_IS_TIGHTER)
    assert set(LOWER_IS_TIGHTER.values()) <= set(RiskParams.__struct_fields__)


def test_tightening_alone_breaks_no_relation_between_keys() -> None:
    """Where a greater one may sink, so may the lesser one that must stay below it."""
    for lesser, _, greater in ORDERED:
        key, bound = lesser.removeprefix("risk."), greater.removeprefix("risk.")
        if lesser.startswith("risk.") and bound in LOWER_IS_TIGHTER:
            assert key in LOWER_IS_TIGHTER, (lesser, greater)


def test_the_same_is_no_change() -> None:
    assert change(RUNNING, RISK, config()) == (RISK, {}, {})


@pytest.mark.parametrize("key", LOWER_IS_TIGHTER)
def test_each_limit_is_tightened_and_never_loosened(key: str) -> None:
    field = LOWER_IS_TIGHTER[key]
    now = getattr(RUNNING.settings.risk, key)
    now = now if isinstance(now, int) else float(now)
    sets = {
        "max_open_orders_per_side": (2, now + 1),
        "inventory_halt": (1.01, 9),
        "loss_1m_fraction": (now / 2, now * 1.01),
        "silence_ms": (now - 1, now + 1),
        "inventory_rearm": (now / 2, now * 1.01),
        "max_position_qty": ("0.1", "0.3"),
        "max_order_qty": ("0.04", "0.06"),
    }
    tight, loose = sets.get(key, (now - 1 if isinstance(now, int) else now * 0.99, now))
    tighter = config(f"risk.{key}={tight}")
    found = change(RUNNING, RISK, tighter)
    assert list(found.tightened) == [f"risk.{key}"]
    assert found.waiting == {}
    assert getattr(found.risk, field) == getattr(tighter.params.risk, field)
    back = change(RUNNING, found.risk, RUNNING)
    assert (back.risk, back.tightened) == (found.risk, {})
    assert list(back.waiting) == [f"risk.{key}"]
    if loose != now:
        looser = change(RUNNING, RISK, config(f"risk.{key}={loose}"))
        assert (looser.risk, looser.tightened, list(looser.waiting)) == (RISK, {}, [f"risk.{key}"])


def test_the_log_speaks_in_the_units_of_the_keys() -> None:
    found = change(RUNNING, RISK, config("risk.max_position_qty=0.1", "risk.loss_budget=9"))
    assert found.tightened == {
        "risk.loss_budget": ("500.0", "9.0"),
        "risk.max_position_qty": ("0.200", "0.100"),
    }
    assert Gate(found.risk).refused


def test_what_is_no_limit_waits() -> None:
    found = change(
        RUNNING, RISK, config("quote.eta=0.9", "risk.depth_both=0.4", "web.port=1", "mode=paper")
    )
    assert (found.risk, found.tightened) == (RISK, {})
    assert list(found.waiting) == ["quote.eta", "risk.depth_both", "web.port"]
    assert found.waiting["web.port"] == ("8787", "1")


@pytest.mark.parametrize("key", [key for key in KEYS if key.startswith(("account.", "execution."))])
def test_whose_orders_and_how_they_travel_waits_for_a_restart(key: str) -> None:
    values = {
        "account.name": "main",
        "account.api_key_file": "a.key",
        "account.secret_file": "a.secret",
        "account.neutral_qty": "1",
        "account.acknowledge": "more",
        "account.exclusive": "true",
        "execution.amend": "never",
        "execution.dead_man_s": "20",
        "execution.request_timeout_ms": "4000",
        "execution.open_orders_ms": "6000",
        "execution.position_ms": "20000",
    }
    found = change(RUNNING, RISK, config(f"{key}={values.get(key, '1500')}"))
    assert (found.risk, found.tightened, list(found.waiting)) == (RISK, {}, [key])


def test_a_smaller_loss_is_acknowledged_anew_before_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "live.yaml"
    text = (CONFIG.parent / "live-example.yaml").read_text()
    words = "I accept losing up to {} USDT on account main"
    path.write_text(text.replace("acknowledge: #", f"acknowledge: {words.format(100)} #"))
    running = load(path, env={})
    less = ["risk.loss_budget=50"]
    with pytest.raises(ConfigError, match=words.format(50)):
        load(path, env={}, sets=less)
    new = load(path, env={}, sets=[*less, f"account.acknowledge={words.format(50)}"])
    found = change(running, running.params.risk, new)
    assert list(found.tightened) == ["risk.loss_budget"]
    assert list(found.waiting) == ["account.acknowledge"]


def test_another_instrument_tightens_nothing() -> None:
    """Fewer lots of ten times the size are no tighter limit."""
    found = change(RUNNING, RISK, config("instrument.lot=0.01"))
    assert found.risk is RISK
    other = config("symbol=ETHUSDT", "quote.unit_qty=0.01", "risk.loss_budget=1")
    found = change(RUNNING, RISK, other)
    assert (found.risk, found.tightened) == (RISK, {})
    assert {"symbol", "risk.loss_budget"} <= set(found.waiting)


class Bench:
    """A reload of a copy of a shipped file."""

    def __init__(self, folder: Path, sets: Sequence[str] = ()) -> None:
        self.path = Path(shutil.copy(CONFIG, folder / "bot.yaml"))
        self.text = self.path.read_text()
        self.inbox = Inbox(Clock(), frames_max=10, bytes_max=1_000)
        self.loads = 0
        self.sets = sets
        self.reload = Reload(self.path, self.load(), self.inbox, Clock(), self.load)

    def load(self) -> Loaded:
        self.loads += 1
        return load(self.path, env={}, sets=self.sets)

    def write(self, old: str, new: str) -> None:
        assert old in self.text
        self.path.write_text(self.text.replace(old, new))

    def told(self) -> list[float]:
        """Budgets of the events that went into the inbox."""
        events = self.inbox.drain(100)
        assert all(isinstance(event, LimitsTightened) for event in events)
        return [event.risk.loss_budget for event in events]


async def test_a_look_tells_the_engine_and_the_log(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write("loss_budget: 500.0", "loss_budget: 400.0")
    with capture_logs() as lines:
        await bench.reload.look()
        await bench.reload.look()
    assert bench.told() == [400.0]
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("config_changed", "warning")
    assert line["tightened"] == {"risk.loss_budget": ["500.0", "400.0"]}
    bench.write("loss_budget: 500.0", "loss_budget: 450.0")
    with capture_logs() as lines:
        await bench.reload.look()
    assert bench.told() == []
    assert lines[0]["waiting_for_restart"] == {"risk.loss_budget": ["400.0", "450.0"]}


@pytest.mark.parametrize(
    "damage", ["loss_budget: -1", "loss_budget: 1 USDT", "loss_bugdet: 400.0", "\0", "]"]
)
async def test_a_file_that_does_not_hold_changes_nothing(tmp_path: Path, damage: str) -> None:
    bench = Bench(tmp_path)
    bench.write("loss_budget: 500.0", damage)
    with capture_logs() as lines:
        await bench.reload.look()
        await bench.reload.look()
    assert [(line["event"], line["log_level"]) for line in lines] == [("config_refused", "error")]
    assert str(bench.path) in lines[0]["mistake"]
    assert bench.told() == []
    bench.write("loss_budget: 500.0", "loss_budget: 400.0")
    await bench.reload.look()
    assert bench.told() == [400.0]


async def test_a_missing_file_changes_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.path.unlink()
    with capture_logs() as lines:
        await bench.reload.look()
    bench.path.mkdir()
    with capture_logs() as more:
        await bench.reload.look()
    assert [line["event"] for line in lines + more] == ["config_refused"] * 2
    assert bench.told() == []


async def test_what_overrides_the_file_also_overrides_its_changes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ["risk.loss_budget=300"])
    bench.write("loss_budget: 500.0", "loss_budget: 200.0")
    await bench.reload.look()
    assert bench.told() == []


async def test_watching(tmp_path: Path) -> None:
    """A change before the watch began, one while it goes on, and a swapped link."""
    bench = Bench(tmp_path)
    assert repr(bench.reload) == f"<Reload {bench.path}>"
    bench.write("loss_budget: 500.0", "loss_budget: 400.0")
    watch = asyncio.create_task(bench.reload.watch())
    await eventually(lambda: len(bench.inbox))
    assert bench.told() == [400.0]

    async def until_told(budget: float) -> None:
        """Write until it is seen: the watch may not have begun."""
        for n in range(200):
            bench.write("loss_budget: 500.0", f"loss_budget: {budget} # {n}")
            for _ in range(50):
                if len(bench.inbox):
                    return
                await asyncio.sleep(0.01)
        pytest.fail("not seen")

    await until_told(350.0)
    assert bench.told() == [350.0]
    other = tmp_path / "other"
    other.write_text(bench.text.replace("loss_budget: 500.0", "loss_budget: 300.0"))
    link = tmp_path / "link"
    link.symlink_to(other)
    link.replace(bench.path)
    await eventually(lambda: len(bench.inbox))
    assert bench.told() == [300.0]
    below = tmp_path / "runs"
    below.mkdir()
    await asyncio.sleep(0)
    watch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watch
