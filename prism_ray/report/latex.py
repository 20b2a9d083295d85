"""Tables for a paper: LaTeX with booktabs rules; wide ones are shrunk to the line by graphicx."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ESCAPED = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
}
_MOST_COLUMNS = 6
"""Columns up to which a table is set in its natural size."""
_SPECIAL = re.compile("|".join(re.escape(character) for character in _ESCAPED))
_NEGATIVE = re.compile(r"(?<![\w.])-(?=\d)")


def latex_text(text: str) -> str:
    """`text` with every character that LaTeX reads as a command made one that it prints; minus signs as such."""
    escaped = _SPECIAL.sub(lambda match: _ESCAPED[match.group()], text)
    return _NEGATIVE.sub("$-$", escaped)


def table_latex(headings: Sequence[str], rows: Sequence[Sequence[str]], caption: str, label: str) -> str:
    r"""A floating table; the document needs `\usepackage{booktabs}`, and for a table of many columns `{graphicx}`.

    Args:
        headings, rows: cells as text; the first column is set left, the others right.
        caption: below the table.
        label: for `\ref`; letters, digits, `:` and `-`.
    """
    lines = [" & ".join(map(latex_text, line)) + r" \\" for line in (headings, *rows)]
    is_wide = len(headings) > _MOST_COLUMNS
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            *([r"\resizebox{\linewidth}{!}{%"] if is_wide else []),
            rf"\begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}" + ("}" if is_wide else ""),
            rf"\caption{{{latex_text(caption)}}}",
            rf"\label{{{label}}}",
            r"\end{table}",
            "",
        ]
    )
