"""One venue of ccxt without the others, and ccxt as a whole untouched by that."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
from bot.shell.ccxtload import library
found = library(sys.argv[1])
known = [name for name in sys.modules if name.startswith("ccxt")]
peer = found.venue({"apiKey": "k", "secret": "s"})
signed = peer.sign("order", ["fapiPrivate"], "POST", {"symbol": "BTCUSDT"})
import ccxt.pro
print(json.dumps({
    "id": peer.id,
    "known": known,
    "signed": "signature=" in signed["body"],
    "others": hasattr(ccxt.pro, "kraken"),
    "error": found.error.__name__,
}))
"""


@pytest.mark.parametrize("name", ["binance", "binanceusdm"])
def test_a_venue_is_loaded_alone(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name], capture_output=True, check=True, text=True
    )
    told = json.loads(done.stdout)
    assert told == {
        "id": name,
        "known": [],
        "signed": True,
        "others": True,
        "error": "BaseError",
    }


def test_where_all_is_there_it_is_used() -> None:
    import ccxt.pro

    from bot.shell.ccxtload import library

    library.cache_clear()
    assert library("binanceusdm").venue is ccxt.pro.binanceusdm
    assert library("binanceusdm").error is ccxt.BaseError
    library.cache_clear()
