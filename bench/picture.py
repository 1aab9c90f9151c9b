"""The README's picture: requests a second as bars. It follows the reader's light or dark theme."""

from html import escape

from bench.record import Notebook
from bench.stats import Figure, human

_WIDTH, _LEFT, _BAR, _GAP, _TOP = 800, 225, 20, 10, 82
_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f }
.title { font-size: 16px; font-weight: 600 }
.note, .value { fill: #57606a }
.note { font-size: 12px }
.bar { fill: #8c959f }
.ours { fill: #1f7a5c }
.ours-name { font-weight: 600 }
.whisker { stroke: #24292f; stroke-opacity: .55; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .note, .value { fill: #9da7b3 }
  .bar { fill: #6e7781 }
  .ours { fill: #3fb68b }
  .whisker { stroke: #e6edf3 }
}
"""


OURS = ("sidecar", "compiled")


def bars(notebook: Notebook, section: str, case: str) -> list[tuple[str, Figure]]:
    """Peers and their requests a second, the fastest first; what is no proxy is left out."""
    found = [
        (record.peer, record.figure)
        for record in notebook.records
        if (record.section, record.case, record.metric) == (section, case, "requests/s")
        and record.figure
        and record.peer not in ("direct", "relay")
    ]
    return sorted(found, key=lambda pair: -pair[1].median)


def draw(panels: list[tuple[str, list[tuple[str, Figure]]]], labels: dict[str, str], note: str) -> str:
    """An SVG with one group of bars for each panel (its title, and peers with their figures)."""
    top = max((found.high for _, rows in panels for _, found in rows), default=1.0)
    scale = (_WIDTH - _LEFT - 110) / top
    parts, y = [], _TOP
    for title, rows in panels:
        parts.append(f'<text x="16" y="{y}" class="title">{escape(title)}</text>')
        y += 14
        for peer, found in rows:
            parts.append(_bar(labels.get(peer, peer), found, scale, y, ours=peer in OURS))
            y += _BAR + _GAP
        y += 28
    height = y
    described = "; ".join(
        f"{title}: " + ", ".join(f"{labels.get(p, p)} {human(f.median)}" for p, f in rows) for title, rows in panels
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(described, quote=True)}">\n<style>{_STYLE}</style>\n'
        f'<text x="16" y="26" class="title">Requests a second on one core, each attaching a token</text>\n'
        f'<text x="16" y="45" class="note" dy="-2">{escape(note)}</text>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _bar(label: str, found: Figure, scale: float, y: int, *, ours: bool) -> str:
    middle, end = y + _BAR // 2, _LEFT + found.median * scale
    low, high = _LEFT + found.low * scale, _LEFT + found.high * scale
    name, fill = (' class="ours-name"', "ours") if ours else ("", "bar")
    return (
        f'<text x="{_LEFT - 10}" y="{middle + 5}" text-anchor="end"{name}>{escape(label)}</text>'
        f'<rect x="{_LEFT}" y="{y}" width="{end - _LEFT:.1f}" height="{_BAR}" rx="3" class="{fill}"/>'
        f'<path d="M{low:.1f} {middle}H{high:.1f}" class="whisker"/>'
        f'<text x="{max(end, high) + 8:.1f}" y="{middle + 5}" class="value">{human(found.median)}</text>'
    )
