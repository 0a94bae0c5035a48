"""Small charts as inline SVG: no script, no font, no request; readable in black and white through their labels."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_ROW, _LABEL, _BAR, _VALUE = 26, 155, 165, 310


def bars(rows: Sequence[tuple[str, int, str]], title: str, *, tone: str = "#2f6f8f") -> str:
    """Horizontal bars: (label, length, text at the end). Lengths are counts; the longest fills the width."""
    if not rows:
        return ""
    longest = max(value for _, value, _ in rows) or 1
    height = _ROW * len(rows)
    parts = [
        f'<svg class="chart" role="img" aria-label="{escape(title)}" viewBox="0 0 {_LABEL + _BAR + _VALUE} {height}">'
    ]
    for index, (label, value, text) in enumerate(rows):
        top = index * _ROW
        width = max(value * _BAR // longest, 2 if value else 0)
        parts.append(
            f'<text x="{_LABEL - 8}" y="{top + 17}" text-anchor="end">{escape(label)}</text>'
            f'<rect x="{_LABEL}" y="{top + 5}" width="{width}" height="16" rx="2" fill="{tone}"/>'
            f'<text x="{_LABEL + width + 8}" y="{top + 17}" class="value">{escape(text)}</text>'
        )
    return "".join(parts) + "</svg>"


def stacked(rows: Sequence[tuple[str, Sequence[int]]], parts: Sequence[tuple[str, str]], title: str) -> str:
    """Horizontal stacked bars: (label, counts); `parts` gives each segment's name and colour, shown as a legend."""
    if not rows:
        return ""
    longest = max(sum(values) for _, values in rows) or 1
    height = _ROW * (len(rows) + 1)
    out = [
        f'<svg class="chart" role="img" aria-label="{escape(title)}" viewBox="0 0 {_LABEL + _BAR + _VALUE} {height}">'
    ]
    at = _LABEL
    for name, colour in parts:
        out.append(
            f'<rect x="{at}" y="6" width="11" height="11" fill="{colour}"/>'
            f'<text x="{at + 16}" y="16">{escape(name)}</text>'
        )
        at += 30 + 7 * len(name)
    for index, (label, values) in enumerate(rows, 1):
        top, at = index * _ROW, _LABEL
        out.append(f'<text x="{_LABEL - 8}" y="{top + 17}" text-anchor="end">{escape(label)}</text>')
        for value, (name, colour) in zip(values, parts, strict=True):
            if not value:
                continue
            width = max(value * _BAR // longest, 2)
            out.append(
                f'<rect x="{at}" y="{top + 5}" width="{width}" height="16" fill="{colour}">'
                f"<title>{escape(label)}, {escape(name)}: {value}</title></rect>"
            )
            at += width
        out.append(f'<text x="{at + 8}" y="{top + 17}" class="value">{sum(values)}</text>')
    return "".join(out) + "</svg>"
