"""Figures in words, as several subcommands print them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prism_ray.distributed.time_left import TimeLeft

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def duration_text(seconds: float) -> str:
    """A length of time in its two largest units: `2 d 3 h`, `4 min 10 s`, `0 s`."""
    left = max(0, round(seconds))
    parts: list[str] = []
    for size, unit in _UNITS:
        number, left = divmod(left, size)
        if number or parts:
            parts.append(f"{number} {unit}" if number else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part) or "0 s"


def left_text(left: TimeLeft, word: str = "") -> str:
    """How long a launch still takes, with `word` after the time, and what ends it where that is not its last trial."""
    cap = f", when budget.{left.cap} ends the launch" if left.cap else ""
    return f"about {duration_text(left.seconds)}{word}{cap}"
