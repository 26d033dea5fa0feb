import json
from pathlib import Path

import pytest

from bot.modes.configcmd import check, schema, show
from bot.modes.sections import Settings
from bot.modes.settings import LEAVES, load

CONFIG = Path(__file__).parents[2] / "config"
SHIPPED = sorted(CONFIG.glob("*-binance-*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_is_shown_is_a_config_that_means_the_same(path, tmp_path):
    loaded = load(path, env={"MMBOT_QUOTE__G0": "0.5"}, sets=["instrument.base=null-1"])
    again = tmp_path / "again.yaml"
    again.write_text(show(loaded, as_json=False) + "\n")
    reloaded = load(again, env={})
    assert reloaded.digest == loaded.digest
    assert reloaded.params == loaded.params
    assert {source.rpartition(":")[0] for source in reloaded.sources.values()} == {str(again)}


def test_show_names_the_source_of_each_value():
    loaded = load(SHIPPED[1], env={"MMBOT_QUOTE__ETA": "2"}, sets=["quote.xi_bp=0.3"])
    lines = show(loaded, as_json=False).splitlines()
    assert lines[0] == f"mode: paper                     # {loaded.sources['mode']}"
    assert "  eta: 2.0                      # environment MMBOT_QUOTE__ETA" in lines
    assert "  xi_bp: 0.3                    # --set" in lines
    assert '  tick: "0.10"                  # default (instrument table)' in lines
    assert "  g0: null                      # default" in lines
    assert "quote:" in lines
    # Aligned: every source starts in the same column.
    assert len({line.index("  # ") for line in lines if "#" in line}) == 1


def test_show_as_json_is_one_object():
    loaded = load(SHIPPED[1], env={}, sets=["quote.eta=2"])
    text = show(loaded, as_json=True)
    assert "\n" not in text
    rows = json.loads(text)
    assert list(rows) == list(LEAVES)
    assert rows["quote.eta"] == {"value": 2.0, "source": "--set"}
    assert rows["quote.unit_qty"]["value"] == "0.01"
    assert rows["ladder.sizes_units"]["value"] == [1.0, 1.5]
    assert {tuple(row) for row in rows.values()} == {("value", "source")}


def test_the_committed_schema_is_the_generated_one():
    """Regenerate with `mmbot config schema > config/schema.json`."""
    text = json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
    assert (CONFIG / "schema.json").read_text() == text


def test_the_schema_describes_every_key_and_forbids_others():
    made = schema()
    assert made["additionalProperties"] is False
    assert made["required"] == ["venue", "symbol", "quote", "risk"]
    for name in Settings.model_fields:
        entry = made["properties"][name]
        if "$ref" not in entry:
            assert entry["description"]
            continue
        section = made["$defs"][entry["$ref"].rpartition("/")[2]]
        assert section["description"]
        assert section["additionalProperties"] is False
        for key, field in section["properties"].items():
            assert field["description"], f"{name}.{key}"
    risk = made["$defs"]["RiskSection"]
    assert risk["required"] == ["loss_budget", "max_position_qty", "max_order_qty"]
    assert "required" not in made["$defs"]["InstrumentSection"]
    assert "required" not in made["$defs"]["FeesSection"]
    assert "title" not in risk


def test_check_is_one_line_with_instrument_and_digest():
    loaded = load(SHIPPED[1], env={})
    assert check(loaded) == (
        "ok: paper on binance-usdm BTCUSDT, tick 0.10, lot 0.001, maker 2 bp, taker 5 bp, "
        f"digest {loaded.digest}"
    )
