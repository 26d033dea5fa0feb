import json
from pathlib import Path

import pytest

from bot.domain.events import FeedEvent, QuotingStopped
from bot.journal.capture import JournalError
from bot.journal.log import Closed, Header, LogWriter, read_log
from bot.modes.audit import audit
from bot.modes.enginerun import EngineRun, new_codec, new_engine, new_run, paper_venue
from bot.modes.settings import ConfigError, Loaded, load
from tests.test_cli import START_NS, synthetic

CONFIG = Path(__file__).resolve().parents[2] / "config" / "paper-binance-usdm.yaml"
TEXT = "".join(f"{line}\n" for line in synthetic(steps=60)).encode()


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load(CONFIG, env={})


def test_a_run_with_its_journal(loaded: Loaded, tmp_path: Path) -> None:
    folder = new_run(loaded, tmp_path, START_NS, "paper", seed=9)
    seen: list[int] = []
    run = EngineRun(
        loaded,
        folder,
        lambda now, made, engine: seen.append(len(made)),
        mode="paper",
        started_at=START_NS,
        prefix="abc",
        seed=9,
    )
    header = next(read_log(folder.log))  # there before anything happened
    assert isinstance(header, Header)
    assert (header.mode, header.started_at, header.seed) == ("paper", START_NS, 9)
    run.feed_all([TEXT])
    *_, last = read_log(folder.log)
    assert isinstance(last, Closed)
    result = run.result()
    assert (result["decisions"], result["run"]) == (len(seen), str(folder.path))
    assert result["orders_placed"] > 0
    assert all(order.startswith("abc-") for order in run.engine.orders._orders)
    assert audit(folder.path)["ok"] is True
    manifest = json.loads(folder.manifest.read_text())
    assert (manifest["mode"], manifest["seed"]) == ("paper", 9)
    assert manifest["config_sha256"] == loaded.digest


def test_eyes_watch_beside_the_summary(loaded: Loaded) -> None:
    class Eye:
        def __init__(self) -> None:
            self.trusted: list[bool] = []

        def trust(self, now: int, trusted: bool) -> None:
            self.trusted.append(trusted)

        def learned(self, event: FeedEvent, engine: object) -> None:
            pass

        def decided(self, now: int, decisions: object, engine: object) -> None:
            pass

    eye = Eye()
    run = EngineRun(loaded, eyes=(eye,))
    run.feed_all([TEXT])
    assert eye.trusted == [True]
    assert run.summary.first_trusted_ns is not None


def test_a_log_that_cannot_be_closed_leaves_no_open_segment(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = EngineRun(loaded, new_run(loaded, tmp_path, START_NS, "paper"))
    run.pump.feed(TEXT)

    def full(self: LogWriter) -> None:
        raise JournalError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(LogWriter, "close", full)
        with pytest.raises(JournalError, match="no space"):
            run.close("end")
    assert run.segments is not None
    assert "closed=True" in repr(run.segments)
    run._log.close()  # type: ignore[union-attr]


def test_a_stop_is_audited(loaded: Loaded, tmp_path: Path) -> None:
    folder = new_run(loaded, tmp_path, START_NS, "paper")
    run = EngineRun(loaded, folder)
    run.pump.feed(TEXT)
    run.pump.batch([QuotingStopped(run.pump.now, "enough")], run.pump.now)
    run.close("enough")
    found = audit(folder.path)
    assert (found["ok"], found["closed"], found["difference"]) == (True, True, None)
    (folder.journal / "market-000001.zst").rename(folder.journal / "market-000002.zst")
    with pytest.raises(JournalError, match=r"only be audited from its start"):
        audit(folder.path)


def test_what_cannot_be_traded_is_a_mistake_of_the_config() -> None:
    inverse = load(None, env={}, sets=["venue=binance-coinm", "symbol=BTCUSD_PERP"])
    with pytest.raises(ConfigError, match="inverse contract"):
        new_engine(inverse)
    with pytest.raises(ConfigError, match="inverse contract"):
        EngineRun(inverse)
    assert new_codec(inverse.instrument) is not None


def test_the_venue_is_the_configured_one(loaded: Loaded) -> None:
    other = load(CONFIG, env={}, sets=["paper.queue=power3", "paper.queue_n=2"])
    venues = [paper_venue(one, new_engine(one)) for one in (loaded, other)]
    assert venues[0].model != venues[1].model
    assert venues[1].power == 2.0
