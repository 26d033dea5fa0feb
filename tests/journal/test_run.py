import json
from decimal import Decimal
from pathlib import Path

import pytest

from bot.domain.instrument import Fees
from bot.journal.capture import JournalError
from bot.journal.run import Run, open_run, run_name


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_names() -> None:
    assert (
        run_name(1723161253030314667, "binance-usdm", "BTCUSDT")
        == "20240808T235413Z-binance-usdm-BTCUSDT"
    )
    assert run_name(999_999_999, "x", "BTC/USDT:USDT") == "19700101T000000Z-x-BTC_USDT_USDT"


def test_a_taken_name_is_numbered(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "runs"
    runs = [Run.create(root, "r") for _ in range(3)]
    assert [run.path.name for run in runs] == ["r", "r-2", "r-3"]
    assert names(root) == ["r", "r-2", "r-3"]
    assert all(run.journal.is_dir() for run in runs)
    assert runs[1].database == root / "r-2" / "run.db"
    assert runs[1].log == root / "r-2" / "journal" / "decisions.log"
    assert repr(runs[0]) == f"Run(path={runs[0].path!r})"


@pytest.mark.parametrize("name", ["", "..", "a/b", "/a", "-x", "a b", "é"])
def test_only_plain_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(JournalError, match="cannot name a run"):
        Run.create(tmp_path, name)
    assert names(tmp_path) == []


def test_a_root_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="cannot be created: "):
        Run.create(tmp_path / "file", "r")


def test_names_run_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.journal.run.SAME_NAME_MAX", 2)
    Run.create(tmp_path, "r")
    Run.create(tmp_path, "r")
    with pytest.raises(JournalError, match=r"already holds 2 runs named r$"):
        Run.create(tmp_path, "r")


def test_manifest_round_trip(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "r")
    run.write_manifest({"seed": 7, "config": {"b": 1, "a": [1.5, None]}})
    run.write_manifest(
        {"z": Fees(Decimal("-0.10"), Decimal(1)), "seed": 7, "config": {"b": 1, "a": [1.5, None]}}
    )
    assert run.read_manifest() == {
        "config": {"a": [1.5, None], "b": 1},
        "seed": 7,
        "z": {"maker": "-0.10", "taker": "1"},
    }
    text = run.manifest.read_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"
    assert names(run.path) == ["journal", "manifest.json"]
    assert open_run(run.path) == run


def test_a_failed_write_keeps_the_old_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(tmp_path, "r")
    run.write_manifest({"seed": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for broken in ("os.fsync", "pathlib.Path.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(broken, full)
            with pytest.raises(JournalError, match=r"manifest\.json cannot be written: No space"):
                run.write_manifest({"seed": 2})
        assert names(run.path) == ["journal", "manifest.json"]
        assert run.read_manifest() == {"seed": 1}


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"absent does not exist$"):
        open_run(tmp_path / "absent")
    with pytest.raises(JournalError, match="is not a run's folder"):
        open_run(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="is not a run's folder"):
        open_run(tmp_path / "file")
    run = Run.create(tmp_path, "r")
    with pytest.raises(JournalError, match="is not a run's folder"):
        open_run(run.path)
    with pytest.raises(JournalError, match="cannot be read: No such file"):
        run.read_manifest()


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b'{"a":"\xff"}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: bytes) -> None:
    run = Run.create(tmp_path, "r")
    run.manifest.write_bytes(text)
    with pytest.raises(JournalError, match=r"manifest\.json is damaged: "):
        open_run(run.path)
