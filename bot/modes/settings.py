"""From a user's config to what the core reads: built-in values < file < environment < `--set`.

A wrong config raises `ConfigError`, one sentence with the place (file and line, or the
other source), the dotted key, what is wrong and what would be right.
"""

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from bot.domain.instrument import Fees, Instrument
from bot.domain.params import (
    DiffParams,
    EngineParams,
    GammaParams,
    LadderParams,
    Params,
    QuoteParams,
    RiskParams,
    VolatilityParams,
)
from bot.modes import entry, instruments
from bot.modes.relations import impossible, plain, value_of, whole_lots
from bot.modes.sections import Settings
from bot.modes.yamlsource import (
    ENV_PREFIX,
    ConfigError,
    Layer,
    read_environment,
    read_file,
    read_sets,
    shown,
    shown_key,
)

__all__ = ["KEYS", "LEAVES", "ConfigError", "Loaded", "load"]

DEFAULT: Final = "default"
FROM_TABLE: Final = "default (instrument table)"
FROM_FEES: Final = "default (fee table)"
FROM_PROFILE: Final = "default (paper profile)"
FROM_MODE: Final = "default (mode)"

# Paper sizes for a replay without a config: unit, largest order, largest position, loss
# budget, static depth floor, order tolerance in ticks. Those with a shipped config equal it.
_PROFILES: Final = {
    ("binance-spot", "BTCUSDT"): ("0.001", "0.005", "0.02", 50.0, 200_000.0, 50, 0.5),
    ("binance-spot", "ETHUSDT"): ("0.02", "0.1", "0.4", 50.0, 100_000.0, 5, 0.5),
    ("binance-usdm", "BTCUSDT"): ("0.01", "0.05", "0.2", 500.0, 500_000.0, 10, 1.6),
    ("binance-usdm", "ETHUSDT"): ("0.2", "1", "4", 500.0, 300_000.0, 5, 1.6),
}

# Names of the core that are no keys, because a user writes something else.
_WRITE_INSTEAD: Final = {
    "quote.unit_lots": "write quote.unit_qty in base currency",
    "risk.max_position_lots": "write risk.max_position_qty in base currency",
    "risk.max_order_lots": "write risk.max_order_qty in base currency",
}
_SECRET_WORDS: Final = ("secret", "password", "passphrase", "token", "api_key", "apikey")
# Keys whose value is never shown: somebody may have put the secret itself there.
_HIDDEN: Final = frozenset({"account.api_key_file", "account.secret_file"})


S = TypeVar("S", bound=msgspec.Struct)


class Loaded(msgspec.Struct, frozen=True):
    """A config that holds: as written, as the core reads it, and where each value came from."""

    settings: Settings
    sources: dict[str, str]
    instrument: Instrument
    fees: Fees
    params: Params
    digest: str
    folder: Path  # that relative paths of the config start from


def load(path: Path | None, *, env: Mapping[str, str], sets: Sequence[str] = ()) -> Loaded:
    """Load and check a config.

    Without a `path` venue and symbol come from `env` or `sets`, sizes and limits from a
    built-in paper profile. Raises ConfigError, whose text is one sentence.
    """
    named = Layer({}, {}) if path is None else read_file(path)
    written = [named, read_environment(env, KEYS), read_sets(sets)]
    for layer in written:
        _refuse_unknown(layer)
    where = "no config file" if path is None else str(path)
    layers = [*_built_in(written, has_file=path is not None), *written]
    ranks = {key: rank for rank, layer in enumerate(layers) for key in layer.places}
    places: dict[str, str] = {}
    for layer in layers:
        places.update(layer.places)
    settings = _validated(layers, places, where)
    _refuse_impossible(settings, places, ranks, where)
    return Loaded(
        settings=settings,
        sources={key: places.get(key, DEFAULT) for key in LEAVES},
        instrument=_instrument(settings),
        fees=Fees(settings.fees.maker_bp.scaleb(-4), settings.fees.taker_bp.scaleb(-4)),
        params=params_of(settings),
        digest=_digest(settings),
        folder=Path() if path is None else path.parent,
    )


def _walk(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        yield prefix + name, field
        if _is_section(field):
            assert isinstance(field.annotation, type)
            yield from _walk(field.annotation, f"{prefix}{name}.")


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


# Every dotted key with its field, sections included, in the order of the models.
KEYS: Final = dict(_walk(Settings))
LEAVES: Final = tuple(key for key, field in KEYS.items() if not _is_section(field))


def _refuse_unknown(layer: Layer) -> None:
    """Refuse keys that do not exist and sections that hold no keys."""
    for key, place in layer.places.items():
        if key not in KEYS:
            # A key inside a plain value, as in `quote.eta.x`, is refused at that value.
            inside = key.rpartition(".")[0]
            if inside in KEYS and not _is_section(KEYS[inside]):
                raise ConfigError(
                    f"{place}: {inside} holds keys, but is one value{_meaning(inside)}"
                )
            raise ConfigError(f"{place}: {shown_key(key)} is not a key, {_hint(key, place)}")
        if _is_section(KEYS[key]):
            value = _at(layer.values, key)
            if not isinstance(value, dict):
                raise ConfigError(
                    f"{place}: {key} is {_said(value)}, but is a section: its keys stand "
                    "indented beneath it"
                )


def _hint(key: str, place: str) -> str:
    """Say what a key that does not exist should have been."""
    if key in _WRITE_INSTEAD:
        return _WRITE_INSTEAD[key]
    nearest = _nearest(key)
    meant = nearest is not None and _is_one_slip(_leaf(key), _leaf(nearest))
    if not meant and any(word in key.lower() for word in _SECRET_WORDS):
        names = " and ".join(sorted(_HIDDEN))
        return f"and secrets are never part of a config: {names} name files that hold them"
    if nearest is None:
        return "`mmbot config schema` lists those that exist"
    env = f" ({ENV_PREFIX}{nearest.upper().replace('.', '__')})"
    return f"the nearest is {nearest}{env if place.startswith('environment ') else ''}"


def _nearest(key: str) -> str | None:
    """Find the key that was probably meant: one slip away, the same word elsewhere, or alike."""
    section, _, leaf = key.rpartition(".")
    leaf = leaf.lower()
    siblings = {k: _leaf(k) for k in KEYS if k.rpartition(".")[0] == section}
    slips = {k: word for k, word in siblings.items() if _is_one_slip(leaf, word)}
    same = {k: leaf for k in KEYS if _leaf(k) == leaf}
    elsewhere = {k: _leaf(k) for k in KEYS}
    for words, least in ((slips, 0.0), (same, 0.0), (siblings, 0.5), (elsewhere, 0.75)):
        likest = max(words, key=lambda k: _likeness(leaf, words[k]), default=None)
        if likest is not None and _likeness(leaf, words[likest]) >= least:
            return likest
    return None


def _leaf(key: str) -> str:
    return key.rpartition(".")[2].lower()


def _is_one_slip(word: str, other: str) -> bool:
    """Tell whether one letter was added, dropped or changed, or two neighbours swapped."""
    start = len(_common_start(word, other))
    word, other = word[start:], other[start:]
    end = len(_common_start(word[::-1], other[::-1]))
    word, other = word[: len(word) - end], other[: len(other) - end]
    return max(len(word), len(other)) <= 1 or (len(word) == 2 and word == other[::-1])


def _likeness(word: str, other: str) -> float:
    """Compare two words as difflib does, but let a common start count (as Winkler's does).

    A wrong unit stands last: `loss_bps` is nearer to `loss_budget` than to `loss_pause_s`.
    """
    ratio = difflib.SequenceMatcher(None, word, other).ratio()
    start = len(_common_start(word, other))
    return ratio + 0.1 * min(start, 6) * (1.0 - ratio)


def _common_start(word: str, other: str) -> str:
    pairs = zip(word, other, strict=False)
    return "".join(letter for letter, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _built_in(written: Sequence[Layer], *, has_file: bool) -> list[Layer]:
    """Make the layers beneath the user's, as far as venue and symbol are known."""
    venue, symbol = (
        next((layer.values[key] for layer in reversed(written) if key in layer.values), None)
        for key in ("venue", "symbol")
    )
    if not isinstance(venue, str) or not isinstance(symbol, str):
        return []
    modes = [layer.values["mode"] for layer in written if "mode" in layer.values]
    mode = str(modes[-1]) if modes else "paper"
    base, quote = instruments.currencies(symbol)
    filters: dict[str, object] = {"base": base, "quote": quote}
    listed = instruments.known(venue, symbol)
    if listed is not None:
        filters |= {"tick": listed.tick, "lot": listed.lot, "min_notional": listed.min_notional}
        filters |= {"base": listed.base, "quote": listed.quote}
    layers = [_layer({"instrument": filters}, FROM_TABLE)]
    for world in entry.worlds(mode, venue)[:1]:
        layers.append(_layer({"feed": {"world": world}}, FROM_MODE))
    if venue in instruments.FEES:
        fees = instruments.FEES[venue]
        rates: dict[str, object] = {
            "maker_bp": fees.maker.scaleb(4),
            "taker_bp": fees.taker.scaleb(4),
        }
        layers.append(_layer({"fees": rates}, FROM_FEES))
    if not has_file:
        lots = [layer.values.get("instrument", {}).get("lot") for layer in written]
        lot = next((lot for lot in reversed(lots) if lot is not None), filters.get("lot"))
        layers.append(_layer(_profile(venue, symbol, lot), FROM_PROFILE))
    return layers


def _profile(venue: str, symbol: str, lot: object) -> dict[str, dict[str, object]]:
    """Give the sizes and limits of a paper replay; of an unlisted symbol, a few lots."""
    if (venue, symbol) not in _PROFILES:
        try:
            step = Decimal(getattr(lot, "text", str(lot)))
        except ArithmeticError:
            return {}  # no lot or a wrong one: refused by its own key
        return {
            "quote": {"unit_qty": step},
            "risk": {
                "loss_budget": 50.0,
                "max_order_qty": step * 5,
                "max_position_qty": step * 20,
            },
        }
    unit, order, position, loss, floor, tolerance, k = _PROFILES[venue, symbol]
    return {
        "quote": {"unit_qty": unit, "k_per_bp": k},
        "ladder": {"sizes_units": [1.0, 1.5]},
        "diff": {"tolerance_ticks": tolerance},
        "risk": {
            "loss_budget": loss,
            "max_order_qty": order,
            "max_position_qty": position,
            "depth_floor": floor,
        },
    }


def _layer(values: dict[str, dict[str, object]], place: str) -> Layer:
    keys = [*values, *(f"{name}.{key}" for name, section in values.items() for key in section)]
    return Layer(dict(values), dict.fromkeys(keys, place))


def _validated(layers: Sequence[Layer], places: Mapping[str, str], where: str) -> Settings:
    try:
        return Settings(layers=[layer.values for layer in layers])
    except ValidationError as error:
        # Absent keys last: a value that is there and wrong is nearer to the cause.
        faults = sorted(error.errors(include_url=False), key=lambda e: e["type"] == "missing")
        raise ConfigError(_sentence(faults[0], places, where, layers)) from None


def _sentence(
    fault: ErrorDetails, places: Mapping[str, str], where: str, layers: Sequence[Layer]
) -> str:
    """Turn pydantic's finding into a sentence about the user's key."""
    words = [str(part) for part in fault["loc"] if isinstance(part, str)]
    index = "".join(f"[{part}]" for part in fault["loc"] if isinstance(part, int))
    key = ".".join(words)
    place = places.get(key) or places.get(words[0]) or where
    if place.startswith(DEFAULT):
        place = where
    meaning = _meaning(key)
    if fault["type"] == "missing":
        return _absent(key, place, places, layers)
    wish = fault["msg"].partition(" should ")[2] or f"be right: {fault['msg']}"
    wish = wish.replace(" after validation", "").replace("valid tuple", "list such as [1, 1.5]")
    if fault["type"] == "literal_error" and isinstance(fault["input"], str):
        options = [option.strip("'") for option in wish.removeprefix("be ").split(" or ")]
        options = [option.strip(" '") for part in options for option in part.split(",")]
        close = difflib.get_close_matches(fault["input"].lower(), options, n=1)
        meaning = f" (did you mean {close[0]}?)" if close else meaning
    said = "not shown" if key in _HIDDEN else _said(fault["input"])
    return f"{place}: {key}{index} is {said}, but should {wish}{meaning}"


def _absent(key: str, place: str, places: Mapping[str, str], layers: Sequence[Layer]) -> str:
    if key in ("instrument.tick", "instrument.lot"):
        venue, symbol = (
            next(layer.values[word] for layer in reversed(layers) if word in layer.values)
            for word in ("venue", "symbol")
        )
        return f"{places['symbol']}: {instruments.unknown_symbol(venue, symbol)}"
    if _is_section(KEYS[key]):
        needed = [k for k in LEAVES if k.startswith(f"{key}.") and KEYS[k].is_required()]
        return f"{place}: {key} is missing, it must set {' and '.join(needed)}"
    flag = f", name it with --set {key}=…" if place == "no config file" else ""
    return f"{place}: {key} is missing and has no default{flag}{_meaning(key)}"


def _meaning(key: str) -> str:
    description = KEYS[key].description if key in KEYS else None
    return f" ({description.rstrip('.')})" if description else ""


def _refuse_impossible(
    settings: Settings, places: Mapping[str, str], ranks: Mapping[str, int], where: str
) -> None:
    """Refuse what does not fit together, at the place that was written over the others."""
    stated = {key for key, place in places.items() if not place.startswith(DEFAULT)}
    found = impossible(settings) or entry.unfit(settings, stated)
    if found is None:
        return
    written = [key for key in found.keys if key in stated]
    blamed = max(written, key=lambda key: ranks[key], default=found.keys[0])
    others = [places[key] for key in written if places[key] != places[blamed]]
    beside = f" (see also {', '.join(others)})" if others else ""
    raise ConfigError(f"{places.get(blamed, where)}: {found.reason}{beside}")


def _instrument(settings: Settings) -> Instrument:
    filters = settings.instrument
    return Instrument(
        venue=settings.venue,
        symbol=settings.symbol,
        base=filters.base,
        quote=filters.quote,
        tick=filters.tick,
        lot=filters.lot,
        min_qty_lots=_lots(settings, "instrument.min_qty") if filters.min_qty else 1,
        min_notional=filters.min_notional,
        linear=instruments.is_linear(settings.venue),
    )


def params_of(settings: Settings) -> Params:
    """What the core reads of a configuration, sizes in lots."""
    quote, risk = settings.quote, settings.risk
    q_max = float(risk.max_position_qty / quote.unit_qty)
    return Params(
        quote=_struct(
            QuoteParams,
            quote,
            unit_lots=_lots(settings, "quote.unit_qty"),
            q_soft_units=q_max / 3.0 if quote.q_soft_units is None else quote.q_soft_units,
        ),
        ladder=_struct(LadderParams, settings.ladder),
        volatility=_struct(VolatilityParams, settings.volatility),
        gamma=_struct(GammaParams, settings.gamma),
        diff=_struct(DiffParams, settings.diff),
        # Paper amends nothing; a gateway says what its venue does with an amended order.
        engine=_struct(EngineParams, settings.engine, amend="none"),
        risk=_struct(
            RiskParams,
            risk,
            max_position_lots=_lots(settings, "risk.max_position_qty"),
            max_order_lots=_lots(settings, "risk.max_order_qty"),
        ),
    )


def _struct(kind: type[S], section: BaseModel, **converted: object) -> S:
    """Copy a section into the struct of the same names, except for the `converted` ones."""
    names = (name for name in kind.__struct_fields__ if name not in converted)
    return kind(**{name: getattr(section, name) for name in names}, **converted)


def _lots(settings: Settings, key: str) -> int:
    lots = whole_lots(value_of(settings, key), settings.instrument.lot)
    assert lots is not None, f"{key} was checked by relations"
    return lots


def _digest(settings: Settings) -> str:
    """Hash what holds, not how it was written: 0.10 and 0.1 are one value."""
    values = {
        key: plain(value) if isinstance(value, Decimal) else value
        for key, value in ((key, value_of(settings, key)) for key in LEAVES)
    }
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _at(values: Mapping[str, Any], key: str) -> object:
    inner: Any = values
    for word in key.split("."):
        inner = inner[word]
    return inner


def _said(value: object) -> str:
    return "empty" if value is None else shown(value)
