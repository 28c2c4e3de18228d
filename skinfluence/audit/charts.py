"""Small charts as inline SVG: they need no script, no network and no plotting library."""

import numpy as np

WIDTH, HEIGHT = 640, 240
LEFT, BOTTOM, TOP, RIGHT = 92, 52, 14, 14  # room for the larger type of small screens


def histogram(values, marked, x_label):
    """Counts of ``values`` in [0, 1]; bars stacked by the mask ``marked``.

    Counts are on a square-root scale, so that a few suspects stay visible.
    """
    edges = np.linspace(0, 1, 26)
    dark = np.histogram(values[marked], edges)[0]
    both = np.histogram(values, edges)[0]
    top = max(int(both.max()), 1)
    bars = []
    width = (WIDTH - LEFT - RIGHT) / (len(edges) - 1)
    for k, (flagged, total) in enumerate(zip(dark, both, strict=True)):
        x = LEFT + k * width
        for count, style in ((total, "bar"), (flagged, "bar bad")):
            if count:
                y = _height(np.sqrt(count / top))
                bars.append(
                    f'<rect class="{style}" x="{x + 1:.1f}" y="{y:.1f}" width="{width - 2:.1f}" '
                    f'height="{HEIGHT - BOTTOM - y:.1f}"><title>{edges[k]:.2f} to '
                    f"{edges[k + 1]:.2f}: {total} rows, {flagged} flagged</title></rect>"
                )
    ticks = sorted({1, max(1, round(top / 4)), top})
    marks = [(np.sqrt(t / top), f"{t:,}") for t in ticks]
    return _frame("".join(bars), _x_ticks(0, 1), marks, x_label, "rows (√ scale)")


def line_chart(x, y, x_label, y_label, diagonal=None):
    """A line from the origin; ``diagonal`` is the end of a dotted line of reference."""
    top_x, top_y = float(x[-1]), float(max(y[-1], 1))
    points = [(LEFT, HEIGHT - BOTTOM)] + [
        (_across(a / top_x), _height(b / top_y)) for a, b in zip(x, y, strict=True)
    ]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    drawn = f'<polyline class="line" points="{path}"/>'
    if diagonal is not None:
        end = _across(diagonal / top_x)
        drawn = (
            f'<line class="guide" x1="{LEFT}" y1="{HEIGHT - BOTTOM}" x2="{end:.1f}" '
            f'y2="{_height(1):.1f}"/>' + drawn
        )
    ticks = [(s, f"{round(s * top_x):,}") for s in (0, 0.25, 0.5, 0.75, 1)]
    marks = [(s, f"{round(s * top_y):,}") for s in (0, 0.5, 1)]
    return _frame(drawn, ticks, marks, x_label, y_label)


def _x_ticks(low, high):
    return [(s, f"{low + s * (high - low):g}") for s in (0, 0.25, 0.5, 0.75, 1)]


def _across(share):
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _height(share):
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _frame(drawn, x_ticks, y_ticks, x_label, y_label):
    """Axes with labels around what is drawn; labels are fixed words, never cell values."""
    parts = []
    for share, text in x_ticks:
        x = _across(share)
        anchor = "end" if share == 1 else "middle"
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="{anchor}">{text}</text>'
        )
    for share, text in y_ticks:
        y = _height(share)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    middle = (HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 4}" text-anchor="middle">{x_label}</text>'
        f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">'
        f"{y_label}</text>"
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{y_label} by {x_label}">'
        f"{''.join(parts)}{drawn}</svg>"
    )
