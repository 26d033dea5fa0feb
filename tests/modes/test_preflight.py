"""A refused start is one sentence and exit 3, and leaves nothing behind."""

import signal
from pathlib import Path

import pytest
import typer

from bot.cli import until_stopped
from bot.modes.preflight import EXIT_REFUSED, PreflightRefused
from tests.test_cli import mmbot

EXAMPLE = Path(__file__).resolve().parents[2] / "config" / "live-example.yaml"
WORDS = "I accept losing up to 100 USDT on account main"


def test_a_refusal_is_one_sentence_and_exit_3(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise PreflightRefused("the key can withdraw: make one that cannot")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(typer.Exit) as end:
        until_stopped(work)
    assert end.value.exit_code == EXIT_REFUSED == 3
    assert capsys.readouterr() == ("", "the key can withdraw: make one that cannot\n")
    assert signal.getsignal(signal.SIGTERM) is before


def test_live_is_refused_with_exit_3_whatever_is_acknowledged(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    sets = [f"account.acknowledge={WORDS}", f"run.folder={runs}", "web.port=0"]
    done = mmbot("run", EXAMPLE, "--json", *[word for one in sets for word in ("--set", one)])
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == "live is refused: the kill switch is not complete\n"
    assert not runs.exists()


def test_live_without_the_acknowledgement_is_a_mistake_in_the_config() -> None:
    done = mmbot("run", EXAMPLE)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f'needs it to be exactly "{WORDS}"' in done.stderr
