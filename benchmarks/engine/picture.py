"""The latency curve as an SVG, drawn by hand: no plotting library is needed for two lines."""

import math
from collections.abc import Callable, Sequence

from benchmarks.engine.arrivals import Point

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 46, 56
_LINES = (("p99", "#c2410c"), ("p50", "#1d4ed8"))
_STYLE = "font-family:system-ui,sans-serif;font-size:13px"


def draw(points: Sequence[Point]) -> str:
    """p50 and p99 [ms, logarithmic] against offered load, requests/s."""
    values = [value for point in points for value in (point.p50_ms, point.p99_ms)]
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))
    most = points[-1].rate * 1.05

    def x(rate: float) -> float:
        return _LEFT + rate / most * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        share = math.log(value / low) / math.log(high / low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        _text(_LEFT, 24, "Latency of single texts, open loop (ms)", "font-weight:600"),
        *_grid(low, high, y),
        *_loads(points, x, y(low)),
        _text(_WIDTH / 2, _HEIGHT - 12, "offered load, requests/s", "text-anchor:middle"),
    ]
    for name, colour in _LINES:
        at = [(x(each.rate), y(each.p99_ms if name == "p99" else each.p50_ms)) for each in points]
        path = " ".join(f"{across:.1f},{down:.1f}" for across, down in at)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{d:.1f}" r="3" fill="{colour}"/>' for a, d in at]
        parts.append(_text(at[-2][0], at[-2][1] - 9, name, f"fill:{colour};text-anchor:end"))
    full = x(points[-1].rate / points[-1].share)
    parts.append(
        f'<line x1="{full:.1f}" x2="{full:.1f}" y1="{_TOP}" y2="{y(low):.1f}" '
        'stroke="#6b7280" stroke-dasharray="4 4"/>'
    )
    parts.append(_text(full - 6, _TOP + 2, "capacity", "fill:#6b7280;text-anchor:end"))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'style="{_STYLE}">\n<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>\n'
        f"{body}\n</svg>\n"
    )


def _grid(low: float, high: float, y: Callable[[float], float]) -> list[str]:
    """A line for 1, 2 and 5 of each power of ten."""
    parts = []
    power = low
    while power <= high:
        for value in (power, 2 * power, 5 * power):
            if value <= high:
                parts.append(
                    f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" '
                    f'y2="{y(value):.1f}" stroke="#e5e7eb"/>'
                )
                parts.append(_text(_LEFT - 8, y(value) + 4, f"{value:g}", "text-anchor:end"))
        power *= 10
    return parts


def _loads(points: Sequence[Point], x: Callable[[float], float], bottom: float) -> list[str]:
    """The offered loads."""
    return [
        _text(x(point.rate), bottom + 18, f"{point.rate:.0f}", "text-anchor:middle")
        for point in points
    ]


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" style="{style}">{text}</text>'
