"""Where settings are written: a YAML file, the environment, `--set`. All three speak YAML.

Each source becomes a `Layer`, in which every key knows its place, so that a refusal
can name the line. YAML is 1.2 as ruamel.yaml reads it: `NO` is text, `12:30` is text,
a key that stands twice is refused.
"""

import difflib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLWarning
from ruamel.yaml.nodes import Node, ScalarNode
from ruamel.yaml.reader import ReaderError

from bot.shell.lease import STATE_VARIABLE

ENV_PREFIX: Final = "MMBOT_"
# No settings, and never read as such; the first two are of a testnet.
ENV_API_KEY: Final = "MMBOT_API_KEY"
ENV_SECRET: Final = "MMBOT_SECRET"  # noqa: S105 - the name of one
NO_SETTINGS: Final = (ENV_API_KEY, ENV_SECRET, STATE_VARIABLE)
FILE_BYTES_MAX: Final = 1 << 20
DEPTH_MAX: Final = 8
# An alias may repeat a node; this bounds what a few lines can unfold to.
NODES_MAX: Final = 10_000
SHOWN_CHARS_MAX: Final = 60


class ConfigError(Exception):
    """A user's setting is wrong. `str()` is one line: where, what, and what would be right."""

    def __init__(self, sentence: str) -> None:
        """Close `sentence` with a full stop and keep it on one line."""
        super().__init__(" ".join(sentence.split()).rstrip(".") + ".")


class Layer(msgspec.Struct, frozen=True):
    """One source: nested plain values, and the place of every dotted key (sections too)."""

    values: dict[str, Any]
    places: dict[str, str]


class Number(float):
    """A YAML float that remembers its digits, so that `0.10` is exact as a Decimal."""

    text: str

    def __new__(cls, value: float, text: str) -> "Number":
        """`text` is the number as it was written."""
        number = super().__new__(cls, value)
        number.text = text
        return number


def read_file(path: Path) -> Layer:
    """Read a YAML file whose top level is a mapping.

    Raises ConfigError when it is missing, unreadable, too large, not UTF-8 or not such YAML.
    """
    name = str(path)
    text = _decoded(_bytes(path, name), name)
    tree = _parse(text, name, has_lines=True)
    if tree is None:
        raise ConfigError(f"{name}:1: the file is empty, but a config names at least a venue")
    if not isinstance(tree, CommentedMap):
        raise ConfigError(
            f"{name}:1: the file holds {shown(tree)}, but must hold `key: value` lines"
        )
    places: dict[str, str] = {}
    values = _Unfolding(places, file=name).mapping(tree, "", f"{name}:1", 0)
    return Layer(values, places)


def read_environment(env: Mapping[str, str], keys: Iterable[str]) -> Layer:
    """Read the `MMBOT_…` variables that are settings; `__` nests and case does not count.

    `keys` are the dotted keys that exist; a name that fits none of them keeps its
    lower-case spelling, for the caller to refuse.
    """
    spelling = {key.lower(): key for key in keys}
    layer = Layer({}, {})
    for name in sorted(env):
        if name.startswith(ENV_PREFIX) and name not in NO_SETTINGS:
            dotted = name.removeprefix(ENV_PREFIX).lower().replace("__", ".")
            _add(layer, spelling.get(dotted, dotted), env[name], f"environment {name}")
    return layer


def read_sets(sets: Sequence[str]) -> Layer:
    """Read `a.b=c` assignments, the later one wins; `c` is YAML."""
    layer = Layer({}, {})
    for assignment in sets:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set: {shown(assignment)} should be written as key=value")
        _add(layer, key.strip(), text, "--set")
    return layer


def shown(value: object) -> str:
    """Show a user's value on one line, cut to a readable length, unprintables escaped."""
    if isinstance(value, bool):
        text = str(value).lower()
    else:
        text = value.text if isinstance(value, Number) else repr(value)
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 1] + "…"


def shown_key(key: str) -> str:
    """Show a dotted key bare where it is harmless."""
    return key if key.isprintable() and key and " " not in key else shown(key)


class _ExactConstructor(RoundTripConstructor):
    """ruamel's round-trip constructor, but floats keep their digits and errors their line."""

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, TypeError, LookupError, AttributeError):
            # ruamel believes a tag: `!!bool 5` and `!!omap x` fail deep inside it.
            problem = f"{shown(node.value)} is not what it is tagged or looks like"
            raise ConstructorError(None, None, problem, node.start_mark) from None

    def construct_number(self, node: ScalarNode) -> float:
        value = float(self.construct_yaml_float(node))
        text = str(node.value).replace("_", "")
        return Number(value, text if text[-1:].isdigit() else str(value))


_ExactConstructor.add_constructor("tag:yaml.org,2002:float", _ExactConstructor.construct_number)


class _Unfolding:
    """Turns ruamel's tree into plain values and writes down the place of every key."""

    def __init__(self, places: dict[str, str], file: str = "") -> None:
        self._places = places
        self._file = file
        self._nodes = 0

    def mapping(
        self, node: Mapping[Any, Any], prefix: str, place: str, depth: int
    ) -> dict[str, Any]:
        lines = node.lc.data or {} if isinstance(node, CommentedMap) else {}
        values: dict[str, Any] = {}
        for key, value in node.items():
            # A key that came in by `<<` has no line here: it stands where its section stands.
            at = f"{self._file}:{lines[key][0] + 1}" if self._file and key in lines else place
            if not isinstance(key, str):
                raise ConfigError(f"{at}: {shown(key)} is used as a key, but keys are words")
            if "." in key:
                section, _, leaf = map(shown_key, key.rpartition("."))
                raise ConfigError(f"{at}: {shown_key(key)} should be {leaf}, beneath {section}:")
            self._places[prefix + key] = at
            values[str(key)] = self.value(value, prefix + key, at, depth + 1)
        return values

    def value(self, node: object, key: str, place: str, depth: int) -> Any:
        self._nodes += 1
        if depth > DEPTH_MAX or self._nodes > NODES_MAX:
            raise ConfigError(
                f"{place}: {shown_key(key)} is nested too deep, sections hold no more"
            )
        if isinstance(node, Mapping):
            return self.mapping(node, key + ".", place, depth)
        if isinstance(node, list):
            return [self.value(item, key, place, depth + 1) for item in node]
        if node is None or isinstance(node, bool | Number):
            return node
        for plain in (int, float, str):
            if isinstance(node, plain):
                return plain(node)
        raise ConfigError(
            f"{place}: {shown_key(key)} is neither a number, a word nor a list; "
            "put a word in quotes"
        )


def _bytes(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise ConfigError(f"{name}: there is no such file{_neighbour(path)}") from None
    except OSError as error:
        reason = (error.strerror or "unknown cause").lower()
        raise ConfigError(f"{name}: cannot be read ({reason}), give a readable YAML file") from None
    except ValueError:
        raise ConfigError(f"{shown(name)}: is not the name of a file") from None
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(
            f"{name}: is larger than {FILE_BYTES_MAX} bytes, a config is a short text"
        )
    return data


def _neighbour(path: Path) -> str:
    try:
        there = sorted(file.name for file in path.parent.iterdir() if file.suffix == ".yaml")
    except OSError:
        return f", nor a folder {path.parent}"
    close = difflib.get_close_matches(path.name, there, n=1, cutoff=0.5)
    return f"; the nearest is {path.parent / close[0]}" if close else ""


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name}:{line}: is not UTF-8 text, save the file as UTF-8") from None


def _parse(text: str, place: str, *, has_lines: bool) -> object:
    """Parse YAML; `place` is extended by the line of an error when `has_lines`."""
    yaml = YAML(typ="rt")
    yaml.Constructor = _ExactConstructor
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", YAMLWarning)
            return yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark and has_lines else ""
        raise ConfigError(f"{place}{line}: {_problem(error)}") from None
    except ReaderError as error:
        line = f":{text.count(chr(10), 0, error.position) + 1}" if has_lines else ""
        raise ConfigError(f"{place}{line}: holds a control character, remove it") from None
    except YAMLWarning as error:
        # ReusedAnchorWarning carries its marks only in its text; the last is the culprit.
        problem, *marks = str(error).strip().splitlines()
        lines = re.findall(r"line (\d+), column", " ".join(marks))
        line = f":{lines[-1]}" if lines and has_lines else ""
        raise ConfigError(f"{place}{line}: {problem.strip()}, use another name") from None
    except RecursionError:
        raise ConfigError(f"{place}: is nested too deep, sections hold no more") from None
    except (YAMLError, ValueError, AssertionError) as error:
        # ruamel checks directives such as `%YAML 1.3` by assertion.
        raise ConfigError(f"{place}: is not YAML that can be read: {error}") from None


def _problem(error: MarkedYAMLError) -> str:
    problem = str(error.problem or error.context or "cannot be read")
    if "duplicate" in problem:
        return problem.split(" with value")[0].removeprefix("found ") + ": write the key once"
    if "'\\t'" in problem:
        return "a tab cannot indent YAML, use spaces"
    return f"is not valid YAML: {problem.removeprefix('but ')}"


def _add(layer: Layer, key: str, text: str, place: str) -> None:
    """Put one assignment into `layer`; sections merge, anything else is replaced."""
    tree = _parse(text, f"{place}: {shown_key(key)}", has_lines=False)
    *sections, leaf = key.split(".")
    where = layer.values
    path = ""
    for section in sections:
        path = f"{path}.{section}" if path else section
        layer.places[path] = place
        inner = where.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(
                f"{place}: {shown_key(key)} needs {path} to be a section, not a value"
            )
        where = inner
    layer.places[key] = place
    value = _Unfolding(layer.places).value(tree, key, place, len(sections))
    old = where.get(leaf)
    where[leaf] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
