"""Small charts as inline SVG: no script, no font, no request; readable in black and white through their labels."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
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


_WIDTH, _HIGH, _LEFT, _FOOT = 630, 150, 62, 22


def trend(months: Sequence[str], series: Sequence[tuple[str, Sequence[Decimal], str]], title: str) -> str:
    """Lines over months: (name, a value per month, colour); drawn from zero, the highest value at the top."""
    highest = max((value for _, values, _ in series for value in values), default=Decimal(0))
    if not highest:
        return ""
    step = (_WIDTH - _LEFT - 40) // max(len(months) - 1, 1)
    floor = _HIGH - _FOOT
    out = [f'<svg class="chart" role="img" aria-label="{escape(title)}" viewBox="0 0 {_WIDTH} {_HIGH}">']
    for part in (0, 1, 2):
        y = floor - (floor - 24) * part // 2
        out.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - 20}" y1="{y}" y2="{y}" stroke="#e3e9ec"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end" class="value">{_brief(highest * part / 2)}</text>'
        )
    out += [
        f'<text x="{_LEFT + step * n}" y="{_HIGH - 5}" text-anchor="middle" class="value">{escape(month)}</text>'
        for n, month in enumerate(months)
        if len(months) <= 8 or n % 2 == 0
    ]
    at = _LEFT
    for place, (name, values, tone) in enumerate(series):
        points = [(_LEFT + step * n, floor - int((floor - 24) * value / highest)) for n, value in enumerate(values)]
        # where two lines are one, both can be seen: the later ones are dashed
        dash = ' stroke-dasharray="5 4"' if place else ""
        line = " ".join(f"{x},{y}" for x, y in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{tone}" stroke-width="2"{dash}/>')
        out += [
            f'<circle cx="{x}" cy="{y}" r="{3 - place}" fill="{tone}">'
            f"<title>{escape(name)}, {escape(month)}: {value:,.0f}</title></circle>"
            for (x, y), month, value in zip(points, months, values, strict=True)
        ]
        out.append(
            f'<rect x="{at}" y="2" width="11" height="11" fill="{tone}"/>'
            f'<text x="{at + 16}" y="12">{escape(name)}</text>'
        )
        at += 40 + 7 * len(name)
    return "".join(out) + "</svg>"


def _brief(value: Decimal) -> str:
    for limit, letter in ((10**9, "bn"), (10**6, "m"), (10**3, "k")):
        if value >= limit:
            return f"{value / limit:,.1f} {letter}"
    return f"{value:,.0f}"


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
