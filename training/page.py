"""A page of one file: no script, nothing fetched, readable in light and dark, on wide and narrow screens."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --faint: #ddd; --soft: #666 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #16181b; --faint: #3a3d42; --soft: #a0a4aa } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto; padding: 1rem;
       max-width: 1500px }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid var(--faint) }
p.about { color: var(--soft) }
.charts { display: grid; gap: 1rem; margin-top: 1rem;
          grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)) }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem } .pictures figure { max-width: min(100%, 640px) }
figure { margin: 0 } figure > svg { width: 100%; height: auto } img { max-width: 100%; background: #fff }
figcaption { font-size: 12px; color: var(--soft) } figcaption span { margin-right: 1em; white-space: nowrap }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft) } svg text.title { font-size: 13px; fill: var(--ink) }
svg.key { width: 24px; height: 8px; margin-right: 4px }
.grid { stroke: var(--faint); stroke-width: 1 } .line { fill: none; stroke: var(--c); stroke-width: 1.6 }
.dot, .bar { fill: var(--c) } .whisker { stroke: var(--ink); stroke-width: 1.6 }
.dashed { stroke-dasharray: 5 3 }
.c0 { --c: #2a7ab9 } .c1 { --c: #d1602c } .c2 { --c: #3b9a4b } .c3 { --c: #b0489b } .c4 { --c: #a58a00 }
.c5 { --c: #6b5bd0 } .c6 { --c: #0a9396 } .c7 { --c: #c43b4e }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: 13px }
td, th { border: 1px solid var(--faint); padding: 2px 8px; text-align: left; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums }
"""
KINDS = {".png": "image/png", ".gif": "image/gif"}


def page(title: str, sections: Sequence[str]) -> str:
    """A whole document. `sections`: HTML, each from the functions below."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def section(title: str, *content: str, about: str = "") -> str:
    """A headed part; nothing if it has no content."""
    if not any(content):
        return ""
    text = f'<p class="about">{html.escape(about)}</p>' if about else ""
    return f"<section><h2>{html.escape(title)}</h2>{text}{''.join(content)}</section>"


def charts(drawn: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(drawn)}</div>' if any(drawn) else ""


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Numbers stand to the right, with five digits; None is an empty cell."""
    if not rows:
        return ""
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"<td>{'' if value is None else html.escape(str(value))}</td>"
    return f'<td class="number">{value:.5g}</td>' if isinstance(value, float) else f'<td class="number">{value:,}</td>'


def pictures(files: Sequence[tuple[str, Path]]) -> str:
    """PNG and GIF files, carried within the page, under their captions."""
    items = []
    for caption, file in files:
        data = base64.b64encode(file.read_bytes()).decode()
        text = html.escape(caption, quote=True)
        source = f"data:{KINDS[file.suffix]};base64,{data}"
        items.append(f'<figure><img alt="{text}" src="{source}"><figcaption>{text}</figcaption></figure>')
    return f'<div class="pictures">{"".join(items)}</div>' if items else ""
