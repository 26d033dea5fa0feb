import json
import os
import random
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from bot.domain.instrument import Fees
from bot.domain.params import Params
from bot.modes.configcmd import show
from bot.modes.entry import LIMITS
from bot.modes.settings import KEYS, LEAVES, ConfigError, Loaded, load

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "config").glob("paper-*.yaml"))
TESTNETS = sorted((ROOT / "config").glob("testnet-*.yaml"))
EXAMPLE = ROOT / "config" / "live-example.yaml"
USDM = ROOT / "config" / "paper-binance-usdm.yaml"
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.yaml"


def refusal(
    path: Path | None, env: dict[str, str] | None = None, sets: tuple[str, ...] = ()
) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, env=env or {}, sets=sets)
    sentence = str(caught.value)
    assert sentence.isprintable()
    assert sentence.endswith(".")
    return sentence


def edited(file: Path, old: str, new: str) -> Path:
    text = USDM.read_text()
    assert text.count(old) == 1, f"{old!r} must stand once in {USDM.name}"
    file.write_text(text.replace(old, new))
    return file


def line_of(file: Path, start: str) -> int:
    lines = [line.strip() for line in file.read_text().splitlines()]
    return next(n for n, line in enumerate(lines, 1) if line.startswith(start))


# --- what holds


def test_there_is_a_shipped_config_for_both_markets():
    assert [path.name for path in SHIPPED] == ["paper-binance-spot.yaml", "paper-binance-usdm.yaml"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_config_loads_and_is_what_a_replay_without_config_uses(path):
    loaded = load(path, env={})
    assert path.stem == f"paper-{loaded.settings.venue}"
    assert path.read_text().startswith("# yaml-language-server: $schema=./schema.json\n")
    bare = load(None, env={}, sets=[f"venue={loaded.settings.venue}", "symbol=BTCUSDT"])
    assert (bare.params, bare.fees, bare.instrument) == (
        loaded.params,
        loaded.fees,
        loaded.instrument,
    )
    assert bare.digest == loaded.digest
    assert set(bare.sources) == set(loaded.sources) == set(LEAVES)


@pytest.mark.parametrize("path", TESTNETS, ids=lambda path: path.stem)
def test_a_testnet_config_listens_to_the_testnet_and_finds_its_keys_beside_it(path):
    loaded = load(path, env={})
    assert path.stem == f"testnet-{loaded.settings.venue}"
    assert path.read_text().startswith("# yaml-language-server: $schema=./schema.json\n")
    worlds = {"binance-spot": "testnet", "binance-usdm": "demo"}
    assert loaded.settings.feed.world == worlds[loaded.settings.venue]
    assert loaded.sources["feed.world"] == "default (mode)"
    assert loaded.folder == path.parent
    stated = {key for key, source in loaded.sources.items() if source.startswith(str(path))}
    assert {f"risk.{name}" for name in LIMITS} <= stated
    assert load(path, env={}, sets=["mode=paper"]).settings.feed.world == "live"


def test_there_is_a_testnet_config_for_both_markets():
    assert [path.stem for path in TESTNETS] == ["testnet-binance-spot", "testnet-binance-usdm"]


def test_the_live_example_loads_once_it_is_acknowledged(file):
    sentence = refusal(EXAMPLE)
    right = "I accept losing up to 100 USDT on account main"
    assert sentence == (
        f"{EXAMPLE}:{line_of(EXAMPLE, 'acknowledge:')}: account.acknowledge is empty, "
        f'but mode live needs it to be exactly "{right}".'
    )
    file.write_text(re.sub("acknowledge: #.*", f'acknowledge: "{right}"', EXAMPLE.read_text()))
    loaded = load(file, env={})
    assert (loaded.settings.mode, loaded.settings.feed.world) == ("live", "live")


def test_the_demo_is_a_testnet_with_its_limits_stated():
    loaded = load(ROOT / "config" / "demo.yaml", env={})
    assert (loaded.settings.mode, loaded.settings.feed.world) == ("testnet", "demo")


@pytest.mark.parametrize("path", [*SHIPPED, *TESTNETS, EXAMPLE], ids=lambda path: path.stem)
def test_every_key_of_a_shipped_config_is_commented(path):
    keys = [line for line in path.read_text().splitlines() if re.match(r"\s*\w+: \S", line)]
    assert len(keys) > 25
    assert [line for line in keys if "#" not in line and "symbol" not in line] == []


def test_usdm_is_converted_for_the_core():
    loaded = load(USDM, env={})
    quote, risk = loaded.params.quote, loaded.params.risk
    assert isinstance(loaded.params, Params)
    assert (quote.unit_lots, quote.q_soft_units) == (10, 20.0 / 3.0)
    assert (risk.max_position_lots, risk.max_order_lots, risk.loss_budget) == (200, 50, 500.0)
    assert (quote.A_per_s, quote.k_per_bp, quote.sigma_bp_per_sqrt_s) == (0.9, 1.6, 1.4)
    assert (loaded.params.ladder.sizes_units, loaded.params.diff.tolerance_ticks) == ((1, 1.5), 10)
    assert risk.depth_floor == 500_000
    assert loaded.fees == Fees(maker=Decimal("0.0002"), taker=Decimal("0.0005"))
    assert (str(loaded.instrument.tick), loaded.instrument.min_notional) == ("0.10", 100)


def test_q_soft_is_taken_when_given():
    assert load(USDM, env={}, sets=["quote.q_soft_units=4"]).params.quote.q_soft_units == 4.0


@pytest.mark.parametrize(
    ("venue", "symbol"),
    [("binance-spot", "ETHUSDT"), ("binance-usdm", "ETHUSDT"), ("binance-coinm", "BTCUSD_PERP")],
)
def test_a_replay_needs_no_config_for_a_known_symbol(venue, symbol):
    loaded = load(None, env={}, sets=[f"venue={venue}", f"symbol={symbol}"])
    assert (loaded.instrument.venue, loaded.instrument.symbol) == (venue, symbol)
    assert loaded.instrument.linear is (venue != "binance-coinm")
    assert loaded.sources["quote.unit_qty"] == "default (paper profile)"
    assert loaded.sources["instrument.tick"] == "default (instrument table)"
    assert loaded.sources["fees.maker_bp"] == "default (fee table)"
    assert loaded.sources["quote.eta"] == "default"
    assert loaded.params.quote.q_soft_units == 20.0 / 3.0


def test_a_replay_of_an_unknown_symbol_needs_tick_and_lot():
    sets = ["venue=binance-spot", "symbol=XRPUSDT"]
    sentence = refusal(None, sets=tuple(sets))
    assert sentence.startswith("--set: ")
    assert "--tick and --lot" in sentence
    assert "--tick and --lot" in refusal(None, sets=(*sets, "instrument.tick=0.1"))
    loaded = load(None, env={}, sets=[*sets, "instrument.tick=0.10", "instrument.lot=0.1"])
    # A number that was not quoted keeps its decimals too.
    assert (str(loaded.instrument.tick), loaded.params.quote.unit_lots) == ("0.10", 1)
    assert (loaded.instrument.base, loaded.instrument.quote) == ("XRP", "USDT")


def test_instrument_in_the_file_wins_over_the_table(file):
    edited(file, "fees:\n", 'instrument:\n  tick: "0.5"\n  min_qty: "0.005"\nfees:\n')
    loaded = load(file, env={})
    assert (loaded.instrument.tick, loaded.instrument.min_qty_lots) == (Decimal("0.5"), 5)
    assert loaded.instrument.lot == Decimal("0.001")
    assert loaded.sources["instrument.tick"] == f"{file}:{line_of(file, 'tick:')}"


def test_sources_rank_file_environment_set(file):
    file.write_text(USDM.read_text())
    line = line_of(file, "eta:")
    env = {"MMBOT_QUOTE__ETA": "2"}
    sets = ["quote.eta=3"]
    default = load(None, env={}, sets=["venue=binance-usdm", "symbol=BTCUSDT"])
    stages = [
        (default, 1.0, "default"),
        (load(file, env={}), 1.0, f"{file}:{line}"),
        (load(file, env=env), 2.0, "environment MMBOT_QUOTE__ETA"),
        (load(file, env=env, sets=sets), 3.0, "--set"),
        (load(file, env={}, sets=[*sets, "quote.eta=4"]), 4.0, "--set"),
    ]
    for loaded, value, source in stages:
        assert loaded.params.quote.eta == value
        assert loaded.sources["quote.eta"] == source
        assert loaded.sources["quote.g0"] == "default"


def test_environment_and_set_reach_capitals_and_lists():
    env = {"MMBOT_QUOTE__A_PER_S": "0.5", "MMBOT_LADDER__SIZES_UNITS": "[1, 2, 1]"}
    loaded = load(USDM, env=env)
    assert (loaded.params.quote.A_per_s, loaded.params.ladder.sizes_units) == (0.5, (1, 2, 1))


def test_the_process_environment_is_left_alone(monkeypatch):
    monkeypatch.setenv("MMBOT_QUOTE__ETA", "7")
    assert load(USDM, env={}).params.quote.eta == 1.0
    assert load(USDM, env=os.environ).params.quote.eta == 7.0


def test_keys_and_the_state_folder_in_the_environment_are_no_settings():
    env = {"MMBOT_API_KEY": "[not: yaml", "MMBOT_SECRET": "{", "MMBOT_STATE": "[x"}
    assert load(USDM, env=env).digest == load(USDM, env={}).digest


def test_sizes_are_exact_decimals_whether_quoted_or_not(file):
    edited(file, 'unit_qty: "0.01"', "unit_qty: 0.0100")
    assert load(file, env={}).params == load(USDM, env={}).params


def test_the_digest_is_of_values_not_of_spelling(file):
    digest = load(USDM, env={}).digest
    assert re.fullmatch("[0-9a-f]{64}", digest)
    edited(file, 'unit_qty: "0.01"', "unit_qty: 0.010 # other words")
    assert load(file, env={}).digest == digest
    assert load(USDM, env={}, sets=["fees.taker_bp=5"]).digest == digest
    for change in ("risk.age_ms=501", "quote.eta=1.5", "fees.maker_bp=-1", "quote.g0=0.5"):
        assert load(USDM, env={}, sets=[change]).digest != digest


def test_merge_keys_reach_the_settings(file):
    edited(file, "venue: binance-usdm", "volatility: &v {warmup_s: 9}\nvenue: binance-usdm")
    file.write_text(re.sub(r"\nvolatility:\n(  .*\n)+", "\n", file.read_text()))
    assert load(file, env={}).params.volatility.warmup_s == 9.0


# --- what is refused: keys


def slips(word: str, letters: str = LETTERS) -> set[str]:
    """Every word that one added, dropped, changed or swapped letter makes of `word`."""
    cuts = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    made = {a + b[1:] for a, b in cuts if b}
    made |= {a + b[1] + b[0] + b[2:] for a, b in cuts if len(b) > 1}
    made |= {a + c + b for a, b in cuts for c in letters}
    made |= {a + c + b[1:] for a, b in cuts if b for c in letters}
    return made - {word, ""}


def sampled_slips(word: str, rng: random.Random) -> list[str]:
    cuts = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    made = {a + b[1:] for a, b in cuts if b}
    made |= {a + b[1] + b[0] + b[2:] for a, b in cuts if len(b) > 1}
    made |= {a + rng.choice(LETTERS) + b for a, b in cuts}
    made |= {a + rng.choice(LETTERS) + b[1:] for a, b in cuts if b}
    return sorted(made - {word, ""})


def test_every_slip_in_every_key_is_refused_and_the_right_key_named():
    """The share named right is 100 % where one key alone explains the slip, else near it."""
    rng = random.Random(20240808)
    meant_by: dict[str, set[str]] = {}
    for key in KEYS:
        section, dot, leaf = key.rpartition(".")
        for slip in slips(leaf.lower()):
            meant_by.setdefault(section + dot + slip, set()).add(key)
    tried = named = 0
    for key in KEYS:
        section, dot, leaf = key.rpartition(".")
        for slip in sampled_slips(leaf, rng):
            wrong = section + dot + slip
            if wrong in KEYS:
                continue  # another key's name: the file's own test covers it
            sentence = refusal(None, sets=(f"{wrong}=1",))
            assert sentence.startswith(f"--set: {wrong} is not a key, "), sentence
            right = sentence.endswith(f"the nearest is {key}.")
            if meant_by.get(wrong.lower(), {key}) == {key}:
                assert right, sentence
            tried += 1
            named += right
    assert tried > 4000
    assert named / tried >= 0.995


def test_every_key_mistyped_in_a_file_is_refused_with_its_line(file):
    """A slip that makes another key's name (loss_1m for loss_5m) is refused as its duplicate."""
    rng = random.Random(1011)
    whole = show(load(USDM, env={}), as_json=False).splitlines()
    assert len(whole) == len(KEYS)
    duplicates = 0
    for index, key in enumerate(KEYS):
        leaf = key.rpartition(".")[2]
        others = [k.rpartition(".")[2] for k in KEYS if k != key and same_section(k, key)]
        collisions = sorted(slips(leaf) & set(others))
        for slip in [*rng.sample(sampled_slips(leaf, rng), 2), *collisions]:
            lines = whole.copy()
            lines[index] = lines[index].replace(f"{leaf}:", f"{slip}:", 1)
            file.write_text("\n".join(lines))
            sentence = refusal(file)
            if slip in others:
                assert re.match(rf"{file}:\d+: duplicate key \"{slip}\"", sentence), sentence
                duplicates += 1
            else:
                assert sentence.startswith(f"{file}:{index + 1}: "), sentence
                assert "is not a key, the nearest is" in sentence or slip.isdigit()
    assert duplicates >= 6


def same_section(key: str, other: str) -> bool:
    return key.rpartition(".")[0] == other.rpartition(".")[0]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("risk.loss_bps", "the nearest is risk.loss_budget."),
        ("risk.silence_s", "the nearest is risk.silence_ms."),
        ("risk.collar_bp", "the nearest is risk.collar_bps."),
        ("engine.timer_s", "the nearest is engine.timer_ms."),
        ("volatility.half_life_fast_ms", "the nearest is volatility.half_life_fast_s."),
        ("quote.a_per_s", "the nearest is quote.A_per_s."),
        ("QUOTE.eta", "the nearest is quote."),
        ("loss_budget", "the nearest is risk.loss_budget."),
        ("quote.tick", "the nearest is instrument.tick."),
        ("quote.unit_lots", "write quote.unit_qty in base currency."),
        ("risk.max_order_lots", "write risk.max_order_qty in base currency."),
        ("venue_api_key", "secrets are never part of a config: account.api_key_file and "),
        ("account.api_key", "secrets are never part of a config: account.api_key_file and "),
        ("account.secret", "account.secret_file name files that hold them."),
        ("account.secret_fil", "the nearest is account.secret_file."),
        ("account.acknowlege", "the nearest is account.acknowledge."),
        ("execution.dead_man_ms", "the nearest is execution.dead_man_s."),
        ("execution.recv_window_s", "the nearest is execution.recv_window_ms."),
        ("execution.filters_ms", "the nearest is execution.filters_s."),
        ("zzz", "`mmbot config schema` lists those that exist."),
        ("", "key=value"),
        ("risk.", "is not a key"),
        ("quote.eta.x", "quote.eta holds keys, but is one value"),
    ],
)
def test_a_key_that_does_not_exist_points_to_the_right_one(wrong, words):
    assert words in refusal(USDM, sets=(f"{wrong}=1",))


def test_unknown_variables_name_the_right_variable():
    sentence = refusal(USDM, env={"MMBOT_RISK__LOS_BUDGET": "5"})
    assert sentence == (
        "environment MMBOT_RISK__LOS_BUDGET: risk.los_budget is not a key, "
        "the nearest is risk.loss_budget (MMBOT_RISK__LOSS_BUDGET)."
    )


@pytest.mark.parametrize("value", ["", " 5", " [1]"])
def test_a_section_must_hold_keys(file, value):
    text = re.sub(r"\ndiff:\n(  .*\n)+", f"\ndiff:{value}\n", USDM.read_text())
    file.write_text(text)
    sentence = refusal(file)
    assert sentence.startswith(f"{file}:{line_of(file, 'diff:')}: diff is ")
    assert "is a section" in sentence


# --- what is refused: values


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("eta: 1.0", "eta: .nan", "is nan, but should be a finite number"),
        ("eta: 1.0", "eta: .inf", "is inf, but should be a finite number"),
        ("eta: 1.0", "eta: 1e400", "should be a finite number"),
        ("eta: 1.0", "eta: 'nan'", "should be a valid number"),
        ("eta: 1.0", "eta: true", "is true, but should be a valid number"),
        ("eta: 1.0", "eta: NO", "is 'NO', but should be a valid number"),
        ("eta: 1.0", "eta:", "is empty, but should be a valid number"),
        ("eta: 1.0", "eta: 0", "should be greater than 0"),
        ("eta: 1.0", "eta: [1]", "should be a valid number"),
        ("safety_bp: 0.1", "safety_bp: -0.1", "should be greater than or equal to 0"),
        ("fair_weight: 0.5", "fair_weight: 1.1", "should be less than or equal to 1"),
        ('unit_qty: "0.01"', "unit_qty: .nan", "should be a finite number"),
        ('unit_qty: "0.01"', "unit_qty: -.inf", "should be a finite number"),
        ('unit_qty: "0.01"', "unit_qty: Infinity", "should be a finite number"),
        ('unit_qty: "0.01"', "unit_qty: one", "should be a number"),
        ('unit_qty: "0.01"', "unit_qty: true", "should be a number"),
        ('unit_qty: "0.01"', "unit_qty: 0", "should be greater than 0"),
        ('unit_qty: "0.01"', "unit_qty: 1e-30", "decimal places"),
        ('unit_qty: "0.01"', "unit_qty: 1e99999", "should be less than or equal to"),
        ("maker_bp: 2.0", "maker_bp: 0x", "should be a number"),
        ("maker_bp: 2.0", "maker_bp: 101", "should be less than or equal to 100"),
        ("silence_ms: 1000", "silence_ms: 0.5", "should be a valid integer"),
        ("silence_ms: 1000", "silence_ms: 0", "should be greater than or equal to 1"),
        ("loss_budget: 500.0", "loss_budget: -5", "should be greater than 0"),
        ("mode: paper", "mode: papr", "(did you mean paper?)"),
        ("mode: paper", "mode: NO", "is 'NO', but should be 'paper', 'testnet' or 'live'"),
        ("model: glft", "model: gltf", "(did you mean glft?)"),
        ("venue: binance-usdm", "venue: binance-usdn", "(did you mean binance-usdm?)"),
        ("symbol: BTCUSDT", "symbol: btc/usdt", "should be spelled BTCUSDT"),
        ("symbol: BTCUSDT", "symbol: 123", "put it in quotes"),
        ("symbol: BTCUSDT", "symbol: BTCUSDC", "(did you mean BTCUSDT?), give --tick and --lot"),
        ("sizes_units: [1.0, 1.5]", "sizes_units: []", "at least 1 item"),
        ("sizes_units: [1.0, 1.5]", "sizes_units: [1, 1, 1, 1]", "at most 3 items"),
        ("sizes_units: [1.0, 1.5]", "sizes_units: 1", "a list such as [1, 1.5]"),
        ("sizes_units: [1.0, 1.5]", "sizes_units: [1, .nan]", "sizes_units[1] is nan"),
        ("sizes_units: [1.0, 1.5]", "sizes_units: [1, 0]", "sizes_units[1] is 0, but should be"),
    ],
)
def test_a_wrong_value_is_refused_at_its_line(file, old, new, words):
    edited(file, old, new)
    sentence = refusal(file)
    key = new.partition(":")[0]
    assert sentence.startswith(f"{file}:{line_of(file, key + ':')}: ")
    assert words in sentence


def test_no_number_may_be_infinite_or_nan():
    numbers = [key for key in LEAVES if isinstance(at(load(USDM, env={}), key), float | Decimal)]
    assert len(numbers) > 50
    for key in numbers:
        for value in (".nan", ".inf", "-.inf"):
            sentence = refusal(USDM, sets=(f"{key}={value}",))
            assert sentence.startswith(f"--set: {key} is "), sentence


def at(loaded: Loaded, key: str) -> object:
    value: object = loaded.settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def test_a_wrong_value_names_the_environment_or_the_flag():
    sentence = refusal(USDM, env={"MMBOT_RISK__LOSS_BUDGET": "-5"})
    assert sentence.startswith(
        "environment MMBOT_RISK__LOSS_BUDGET: risk.loss_budget is -5, but should be greater than 0"
    )
    assert refusal(USDM, env={"MMBOT_RISK__LOSS_BUDGET": ""}).startswith("environment MMBOT_RISK")
    sentence = refusal(USDM, sets=("risk.loss_budget=-5",))
    assert sentence.startswith("--set: risk.loss_budget is -5, but should be greater than 0")
    sentence = refusal(USDM, sets=("mode=lve",))
    assert sentence.startswith("--set: mode is 'lve', but should be 'paper', 'testnet' or 'live'")


@pytest.mark.parametrize("name", ["loss_budget", "max_position_qty", "max_order_qty"])
def test_a_limit_has_no_default(file, name):
    text = re.sub(rf"\n  {name}: .*", "", USDM.read_text())
    file.write_text(text)
    sentence = refusal(file)
    place = f"{file}:{line_of(file, 'risk:')}"
    assert sentence.startswith(f"{place}: risk.{name} is missing and has no default")


def test_what_is_missing_altogether(file):
    file.write_text("mode: paper\n")
    assert refusal(file).startswith(f"{file}: venue is missing and has no default")
    file.write_text("venue: binance-usdm\nsymbol: BTCUSDT\nquote: {unit_qty: 1}\n")
    assert refusal(file) == (
        f"{file}: risk is missing, it must set risk.loss_budget and risk.max_position_qty "
        "and risk.max_order_qty."
    )
    assert refusal(None).startswith("no config file: venue is missing")
    assert "--set symbol=" in refusal(None, sets=("venue=binance-spot",))


# --- what is refused: real orders


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("path", TESTNETS, ids=lambda path: path.stem)
def test_real_orders_have_no_limit_from_a_default(path, name, file):
    file.write_text(re.sub(rf"\n  {name}: .*", "", path.read_text()))
    sentence = refusal(file)
    assert sentence.startswith(f"{file}:{line_of(file, 'risk:')}: risk.{name} is missing")
    value = at(load(path, env={}), f"risk.{name}")
    assert load(file, env={}, sets=[f"risk.{name}={value}"]).settings.mode == "testnet"
    assert load(file, env={f"MMBOT_RISK__{name.upper()}": str(value)}).settings.mode == "testnet"


def test_a_paper_profile_states_no_limit():
    sets = ("venue=binance-usdm", "symbol=BTCUSDT", "mode=testnet")
    assert refusal(None, sets=sets) == (
        "--set: risk.loss_budget is missing, and mode testnet takes no limit from a default "
        "(Loss of one day at which everything halts, quote currency)."
    )


def test_a_wrong_world_is_refused_where_it_is_written(file):
    text = TESTNETS[1].read_text()
    file.write_text(f"{text}\nfeed:\n  world: live # a slip\n")
    assert refusal(file) == (
        f"{file}:{line_of(file, 'world:')}: feed.world is live, but mode testnet sends orders "
        "where it listens, so on binance-usdm it should be demo."
    )
    file.write_text(text)
    assert load(file, env={}, sets=["mode=paper", "feed.world=demo"]).settings.mode == "paper"


@pytest.mark.parametrize("name", ["api_key_file", "secret_file"])
@pytest.mark.parametrize("secret", ["Ab3" * 21 + "x", "-----BEGIN PRIVATE KEY-----MC4CAQ"])
def test_a_secret_in_the_place_of_its_file_is_refused_and_not_shown(name, secret):
    sentence = refusal(USDM, sets=(f"account.{name}='{secret}'",))
    assert sentence.startswith(f"--set: account.{name} is not shown, but should name a file")
    assert secret[:20] not in sentence


# --- what is refused: relations


def test_a_relation_is_refused_at_the_stronger_source(file):
    edited(file, "silence_ms: 1000", "silence_ms: 5000")
    here, there = (f"{file}:{line_of(file, key)}" for key in ("silence_ms", "silence_all_ms"))
    rule = "risk.silence_ms (5000) must be at most risk.silence_all_ms"
    assert refusal(file) == f"{here}: {rule} (3000) (see also {there})."
    env = {"MMBOT_RISK__SILENCE_ALL_MS": "4000"}
    name = "environment MMBOT_RISK__SILENCE_ALL_MS"
    assert refusal(file, env=env) == f"{name}: {rule} (4000) (see also {here})."
    sets = ("risk.silence_all_ms=4500",)
    assert refusal(file, env=env, sets=sets) == f"--set: {rule} (4500) (see also {here})."
    assert load(file, env={}, sets=["risk.silence_all_ms=5000"]).params.risk.silence_ms == 5000


def test_a_relation_with_a_default_is_refused_at_the_written_key(file):
    edited(file, "age_ms: 500", "inventory_rearm: 0.9")
    sentence = refusal(file)
    line = line_of(file, "inventory_rearm")
    assert sentence == (
        f"{file}:{line}: risk.inventory_rearm (0.9) must be less than "
        "risk.inventory_one_sided (0.8)."
    )


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("risk.inventory_one_sided=1", "should be less than 1"),
        ("risk.inventory_halt=1", "should be greater than 1"),
        ("risk.inventory_one_sided=0.7", "must be less than risk.inventory_one_sided"),
        ("risk.depth_one=0.3", "must be less than risk.depth_both"),
        ("risk.collar_bps=2.1", "must be greater than the least half-spread"),
        ("fees.maker_bp=99.9", "must be greater than the least half-spread"),
        ("volatility.half_life_mid_s=15", "must be less than volatility.half_life_mid_s"),
        ("ladder.sizes_units=[5.5]", "makes an order of 0.055, but risk.max_order_qty allows"),
        ("risk.max_position_qty=0.049", "must be at most risk.max_position_qty (0.049)"),
        ("quote.unit_qty=0.0105", "the nearest right value is 0.01"),
        ("risk.max_position_qty=0.2004", "the nearest right value is 0.2"),
        ("risk.max_order_qty=0.0506", "the nearest right value is 0.051"),
        ("instrument.lot=0.02", "not a whole number of lots of 0.02"),
        ("instrument.lot=0", "should be greater than 0"),
        ("instrument.tick=-0.1", "should be greater than 0"),
        ("quote.q_soft_units=21", "must be at most risk.max_position_qty / quote.unit_qty (20)"),
    ],
)
def test_impossible_relations_name_the_flag(assignment, words):
    sentence = refusal(USDM, sets=(assignment,))
    assert sentence.startswith("--set: ")
    assert words in sentence


# --- robustness


def test_a_damaged_file_is_refused_in_one_sentence_or_loads(file):
    rng = random.Random(7)
    text = USDM.read_text()
    pieces = [":", "- ", "[", "]", "{", "\t", "\n", "&a ", "*a", "!!int ", "!!omap ", "<<: ", "? "]
    pieces += ["|", "'", '"', "%", "@", "0x", "\x1b", "\u2028", "---", "1e5", "!!bool ", "=", "~"]
    sentences = []
    for _ in range(200):
        cut = rng.randrange(len(text))
        file.write_text(text[:cut] + rng.choice(pieces) + text[cut + rng.randrange(3) :])
        try:
            load(file, env={})
        except ConfigError as error:
            sentences.append(str(error))
    assert len(sentences) > 20
    assert [s for s in sentences if not s.isprintable()] == []
    assert [s for s in sentences if not re.match(rf"{file}:\d+: ", s)] == []


def test_settings_import_nothing_heavy():
    code = (
        "import sys, json, bot.modes.settings;"
        "print(json.dumps([m for m in ('ccxt', 'numba', 'numpy', 'bot.core') if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
