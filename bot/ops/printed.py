"""A result for people: one line a figure. Programs take the JSON instead."""

from decimal import Decimal
from typing import Any


def printed(result: dict[str, Any]) -> str:
    """Name and value, figure by figure; of halts their causes, of files one a line."""
    rows = []
    for key, value in result.items():
        if isinstance(value, dict):
            rows += [(f"{key} {name}", part) for name, part in value.items()]
        elif key == "files":
            rows += [("file", path) for path in value]
        elif key == "halts":
            rows.append((key, len(value)))
            rows += [(f"halt {h['cause']}", f"{h['level']} at {h['at_ns']}") for h in value]
        else:
            rows.append((key, value))
    return "\n".join(f"{name:<26} {_short(value)}" for name, value in rows)


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, str) and "." in value and len(value) > 12:
        try:
            return f"{Decimal(value):.6f}"
        except ArithmeticError:
            return value
    return str(value)
