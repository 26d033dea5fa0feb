"""The texts of `mmbot config show|schema|check`; printing is the command line's."""

import json
import re
from decimal import Decimal
from typing import Any, Final

from bot.modes.relations import plain, value_of
from bot.modes.sections import Settings
from bot.modes.settings import KEYS, LEAVES, Loaded

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_NOT_WORDS: Final = frozenset({"null", "true", "false"})
# The venue's tables fill these in, so a file need not have them.
_OPTIONAL: Final = ("instrument", "fees")


def show(loaded: Loaded, as_json: bool) -> str:
    """Write the effective config with the source of each value.

    As text it is YAML again, sources being its comments; as JSON one object
    `{key: {"value": …, "source": …}}`.
    """
    values = {key: value_of(loaded.settings, key) for key in LEAVES}
    if as_json:
        rows = {
            key: {"value": _json(value), "source": loaded.sources[key]}
            for key, value in values.items()
        }
        return json.dumps(rows, ensure_ascii=False, allow_nan=False)
    lines: list[tuple[str, str]] = []
    for key in KEYS:
        section, _, name = key.rpartition(".")
        if key in values:
            indent = "  " if section else ""
            lines.append((f"{indent}{name}: {_yaml(values[key])}", loaded.sources[key]))
        else:
            lines.append((f"{key}:", ""))
    width = max(len(text) for text, source in lines if source)
    return "\n".join(f"{text:<{width}}  # {source}" if source else text for text, source in lines)


def schema() -> dict[str, Any]:
    """Make the JSON schema that editors check and complete a config with."""
    made: dict[str, Any] = Settings.model_json_schema()
    _drop_titles(made)
    made["required"] = [name for name in made["required"] if name not in _OPTIONAL]
    for name in _OPTIONAL:
        section = made["properties"][name]["$ref"].rpartition("/")[2]
        made["$defs"][section].pop("required", None)
    made["description"] = "A config of mmbot."
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mmbot config",
        **made,
    }


def check(loaded: Loaded) -> str:
    """Say on one line that a config holds, for which instrument, and its digest."""
    instrument = loaded.instrument
    return (
        f"ok: {loaded.settings.mode} on {instrument.venue} {instrument.symbol}, "
        f"tick {instrument.tick:f}, lot {instrument.lot:f}, "
        f"maker {plain(loaded.settings.fees.maker_bp)} bp, "
        f"taker {plain(loaded.settings.fees.taker_bp)} bp, digest {loaded.digest}"
    )


def _json(value: object) -> object:
    return format(value, "f") if isinstance(value, Decimal) else value


def _yaml(value: object) -> str:
    if isinstance(value, str) and _WORD.fullmatch(value) and value not in _NOT_WORDS:
        return value
    return json.dumps(_json(value), ensure_ascii=False, allow_nan=False)


def _drop_titles(node: object) -> None:
    """Remove pydantic's titles, which repeat the names of the keys."""
    if isinstance(node, dict):
        if isinstance(node.get("title"), str):
            del node["title"]
        for value in node.values():
            _drop_titles(value)
    elif isinstance(node, list):
        for value in node:
            _drop_titles(value)
