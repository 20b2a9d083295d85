"""One page of a report: figures inside, nothing from the network, readable on a phone, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from matplotlib.figure import Figure

from prism_ray.report.style import inline_svg

_CSS = """
:root { color-scheme: light dark;
  --text: #24272c; --quiet: #5b6168; --page: #ffffff; --line: #d5d9de; --mark: #f3f5f8; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8eb; --quiet: #a2a9b1; --page: #16181c; --line: #373c43; --mark: #20242a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 3rem; max-width: 76rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .5rem 0; max-width: 46rem; }
.study, figcaption, dt { color: var(--quiet); }
.answer, .note { background: var(--mark); padding: .7rem .9rem; border-radius: .4rem; max-width: 46rem; }
.note { border-left: .25rem solid #d9622b; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .35rem .6rem .35rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; vertical-align: bottom; }
figure { margin: .5rem 0 0; }
figure svg { display: block; max-width: 44rem; height: auto; }
figcaption { font-size: .9rem; max-width: 46rem; margin-top: .3rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font-size: .9rem; }
dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--mark); padding: .6rem .8rem; border-radius: .4rem; overflow-x: auto; }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; } dt { margin-top: .4rem; } }
"""


def document(title: str, parts: Iterable[str]) -> str:
    """The whole page as text.

    Args:
        title: of the browser's window.
        parts: HTML in the order of the page.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def table_html(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table that scrolls by itself where it is wider than the page; the first column is text."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in headings)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def figure_html(drawing: Figure, name: str, title: str, caption: str) -> str:
    """A drawing with its caption.

    Args:
        drawing: what is drawn.
        name: unique among the figures of the page.
        title: what a screen reader says.
        caption: below it.
    """
    svg = inline_svg(drawing, name, title)
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def definitions_html(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of words and what stands for each."""
    lines = "".join(f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>" for word, text in pairs)
    return f"<dl>{lines}</dl>"
