"""What a person reads of a result."""

from bot.ops.printed import printed


def test_every_figure_has_a_line() -> None:
    result = {
        "fills": 3,
        "uptime": 0.98765432,
        "pnl": {"total": "-1.23456789012345", "spread": "0.5"},
        "halts": [{"cause": "depth", "level": "PAUSED", "at_ns": 7}],
        "files": ["a.zst", "b.zst"],
        "reason": "a long sentence. With a stop in it",
    }
    assert [line.split(maxsplit=1) for line in printed(result).splitlines()] == [
        ["fills", "3"],
        ["uptime", "0.9877"],
        ["pnl", "total                  -1.234568"],
        ["pnl", "spread                 0.5"],
        ["halts", "1"],
        ["halt", "depth                 PAUSED at 7"],
        ["file", "a.zst"],
        ["file", "b.zst"],
        ["reason", "a long sentence. With a stop in it"],
    ]


def test_values_stand_in_one_column() -> None:
    assert printed({"a": 1, "bc": 2}) == f"a{' ' * 26}1\nbc{' ' * 25}2"
