from pathlib import Path

import pytest

from bot.modes.yamlsource import (
    DEPTH_MAX,
    FILE_BYTES_MAX,
    ConfigError,
    Number,
    read_environment,
    read_file,
    read_sets,
    shown,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.yaml"


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    return str(caught.value)


def test_every_key_knows_its_line(file):
    file.write_text("# head\nvenue: x\nrisk:\n\n  loss: 5  # comment\n  list: [1,\n    2]\nz: 1\n")
    layer = read_file(file)
    assert layer.values == {"venue": "x", "risk": {"loss": 5, "list": [1, 2]}, "z": 1}
    assert layer.places == {
        "venue": f"{file}:2",
        "risk": f"{file}:3",
        "risk.loss": f"{file}:5",
        "risk.list": f"{file}:6",
        "z": f"{file}:8",
    }


def test_flow_mappings_know_their_lines_too(file):
    file.write_text("risk: {a: 1,\n  b: 2}\n")
    assert read_file(file).places["risk.b"] == f"{file}:2"


def test_yaml_1_2_leaves_words_and_times_alone(file):
    file.write_text("a: NO\nb: 12:30\nc: yes\nd: true\ne: 010\nf: ~\n")
    values = read_file(file).values
    assert values == {"a": "NO", "b": "12:30", "c": "yes", "d": True, "e": 10, "f": None}
    assert [type(value) for value in values.values()] == [str, str, str, bool, int, type(None)]


@pytest.mark.parametrize(
    ("text", "value", "digits"),
    [
        ("0.10", 0.1, "0.10"),
        ("1_000.50", 1000.5, "1000.50"),
        ("1e-5", 1e-5, "1e-5"),
        ("-0.10", -0.1, "-0.10"),
        (".inf", float("inf"), "inf"),
        ("-.INF", float("-inf"), "-inf"),
        ("0.01000000000000000000001", 0.01, "0.01000000000000000000001"),
    ],
)
def test_a_float_keeps_its_digits(text, value, digits):
    number = read_sets([f"a={text}"]).values["a"]
    assert isinstance(number, Number)
    assert (number, number.text) == (value, digits)


def test_anchors_and_merge_keys_work(file):
    file.write_text("a: &a\n  x: 1.5\n  y: 2\nb:\n  <<: *a\n  y: 3\n")
    layer = read_file(file)
    assert layer.values == {"a": {"x": 1.5, "y": 2}, "b": {"x": 1.5, "y": 3}}
    # A merged key stands where its section stands.
    assert (layer.places["b.y"], layer.places["b.x"]) == (f"{file}:6", f"{file}:4")


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"", 1, "empty"),
        (b"# only a comment\n", 1, "empty"),
        (b"- 1\n", 1, "key: value"),
        (b"hello\n", 1, "'hello'"),
        (b"a: 1\nb: \xff\n", 2, "UTF-8"),
        ("a: 1\n".encode("utf-16"), 1, "UTF-8"),
        (b"a: 1\nb: \x00\n", 2, "control character"),
        (b"a: 1\na: 2\n", 2, 'duplicate key "a"'),
        (b"r:\n  a: 1\n  b: 2\n  a: 1\n", 4, 'duplicate key "a"'),
        (b"r:\n\ta: 1\n", 2, "tab"),
        (b"a: [1\nb: 2\n", 2, "not valid YAML"),
        (b"a: b: c\n", 1, "not valid YAML"),
        (b"a: *b\n", 1, "undefined alias"),
        (b"a: 1\n---\nb: 1\n", 2, "another document"),
        (b"a: &x 1\nb: &x 2\n", 2, "duplicate anchor 'x'"),
        (b"a: 1\nb: !!int x\n", 2, "'x'"),
        (b"a: 1\nb: !!bool 5\n", 2, "'5'"),
        (b"a: 1\nb: !!omap x\n", 2, "'x'"),
        (b"a: " + b"1" * 5000, 1, "1111"),
        (b"a: 1\nb: 2024-99-99\n", 2, "2024-99-99"),
        (b"a: 1\nb: 2024-08-08\n", 2, "quotes"),
        (b"a: 1\nb: !x y\n", 2, "quotes"),
        (b"a: 1\n5: 1\n", 2, "keys are words"),
        (b"a: 1\n? [b]\n: 1\n", 2, "keys are words"),
        (b"a: 1\nrisk.loss: 1\n", 2, "loss, beneath risk:"),
        (b"x: 1\ny: " + b"[" * 20 + b"]" * 20, 2, "too deep"),
    ],
)
def test_what_is_not_a_config_is_refused_with_its_line(file, data, line, words):
    file.write_bytes(data)
    sentence = refusal(file)
    assert sentence.startswith(f"{file}:{line}: ")
    assert words in sentence
    assert sentence.isprintable()
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[" * 500, "too deep"),
        (b"%YAML 1.3\n---\na: 1\n", "version"),
        (b"#" * (FILE_BYTES_MAX + 1), "larger than"),
    ],
)
def test_what_has_no_line_is_refused_with_the_file(file, data, words):
    file.write_bytes(data)
    sentence = refusal(file)
    assert sentence.startswith(f"{file}: ")
    assert words in sentence


def test_aliases_cannot_unfold_without_end(file):
    lines = ["a0: &a0 [" + "1," * 30 + "]"]
    lines += [f"a{i}: &a{i} [" + f"*a{i - 1}," * 30 + "]" for i in range(1, DEPTH_MAX - 2)]
    file.write_text("\n".join(lines))
    assert "too deep" in refusal(file)


def test_a_missing_file_names_its_neighbour(file):
    file.write_text("a: 1")
    near = file.with_name("b.yaml")
    assert refusal(near) == f"{near}: there is no such file; the nearest is {file}."
    assert refusal(file.parent / "no" / "a.yaml").endswith(f"nor a folder {file.parent / 'no'}.")
    assert refusal(file.parent / "x").endswith("there is no such file.")


def test_an_unreadable_file_is_refused(file, monkeypatch):
    assert refusal(file.parent) == (
        f"{file.parent}: cannot be read (is a directory), give a readable YAML file."
    )
    assert "not the name of a file" in refusal(Path("a\0b"))

    def denied(self, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert refusal(file).startswith(f"{file}: cannot be read (permission denied)")


def test_environment_nests_and_finds_the_spelling():
    env = {
        "MMBOT_QUOTE__A_PER_S": "0.5",
        "MMBOT_LADDER__SIZES": "[1, 2]",
        "MMBOT_MODE": "NO",
        "HOME": "/",
        "XMMBOT_MODE": "x",
    }
    layer = read_environment(env, ["quote", "quote.A_per_s", "ladder", "ladder.sizes", "mode"])
    assert layer.values == {"ladder": {"sizes": [1, 2]}, "mode": "NO", "quote": {"A_per_s": 0.5}}
    assert layer.places["quote.A_per_s"] == "environment MMBOT_QUOTE__A_PER_S"
    assert layer.places["ladder"] == "environment MMBOT_LADDER__SIZES"


def test_an_unknown_variable_is_kept_for_its_refusal():
    layer = read_environment({"MMBOT_RISK__LOS": "5"}, ["risk", "risk.loss"])
    assert layer.values == {"risk": {"los": 5}}


def test_later_sets_win_and_sections_merge():
    layer = read_sets(["r.a=1", "r.b=x=y", "r.a=2", "r={c: 3}", " s =NO"])
    assert layer.values == {"r": {"a": 2, "b": "x=y", "c": 3}, "s": "NO"}
    assert set(layer.places) == {"r", "r.a", "r.b", "r.c", "s"}
    assert set(layer.places.values()) == {"--set"}


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("x", "key=value"),
        ("=1", "key=value"),
        ("", "key=value"),
        ("a=[", "--set: a: is not valid YAML"),
        ("a=b: c: d", "--set: a: is not valid YAML"),
        ("a=\x1b", "control character"),
        ("a={b.c: 1}", "c, beneath b:"),
    ],
)
def test_a_set_that_cannot_be_read_is_refused(assignment, words):
    with pytest.raises(ConfigError) as caught:
        read_sets([assignment])
    assert words in str(caught.value)
    assert str(caught.value).startswith("--set: ")


def test_a_key_beneath_a_value_is_refused():
    with pytest.raises(ConfigError, match=r"--set: r\.a needs r to be a section"):
        read_sets(["r=1", "r.a=1"])


def test_a_config_error_is_one_closed_line():
    assert str(ConfigError("a:\n  b.")) == "a: b."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (Number(0.1, "0.10"), "0.10"),
        ("a\nb\x1b", r"'a\nb\x1b'"),
        ("x" * 99, "'" + "x" * 58 + "…"),
    ],
)
def test_values_are_shown_on_one_short_line(value, text):
    assert shown(value) == text
