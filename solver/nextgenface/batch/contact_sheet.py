"""The contact sheet: one HTML page beside the results that needs nothing else, and no network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import quote

ORDER = ("failed", "stopped", "waiting", "finished")
"""What needs a person's attention comes first."""

_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5rem; background: #1d1d1f; color: #e8e8ea }
h1 { font-size: 1.3rem; margin: 0 0 .3rem } p { margin: .2rem 0 .6rem } a { color: inherit }
.dim { color: #a0a0a6 }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(272px, 1fr)); gap: 12px }
.card { background: #2a2a2e; border-radius: 6px; overflow: hidden; border-top: 4px solid #888 }
.card img { width: 100%; aspect-ratio: 2; display: block; background: #111 }
.card div { padding: 8px 10px; overflow-wrap: anywhere }
.finished { border-color: #4caf72 } .failed { border-color: #e05a4e }
.stopped, .waiting { border-color: #d9a441 }
.error { color: #ffb4ab; white-space: pre-wrap }
"""


def contact_sheet(summary: Mapping[str, Any]) -> str:
    """The page of a `summary.json`. Links are relative, so the folder may be moved as a whole."""
    counts = ", ".join(f"{number} {state}" for state, number in summary["counts"].items() if number)
    entries = sorted(summary["subjects"], key=lambda entry: ORDER.index(entry["status"]))
    notes = "".join(f'<p class="error">{escape(note)}</p>' for note in summary["warnings"])
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>NextGenFace batch</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>\n'
        f"<h1>{escape(counts) or 'Nobody'}</h1>"
        f'<p class="dim">{escape(summary["input"])} &rarr; {escape(summary["output"])}, '
        f"{_duration(summary['seconds'])}, {escape(summary['where'])}</p>{notes}\n"
        '<div class="sheet">\n' + "\n".join(map(_card, entries)) + "\n</div></body></html>\n"
    )


def _card(entry: Mapping[str, Any]) -> str:
    name, status = escape(entry["name"]), entry["status"]
    title = f"<b>{name}</b>"
    picture = ""
    if entry["thumbnail"]:
        picture = f'<img loading="lazy" alt="{name}" src="{quote(entry["thumbnail"])}">'
    if entry["result"]:
        strip = quote(f"{entry['name']}/render_0.png")
        title = f'<a href="{quote(entry["name"])}/">{title}</a>'
        picture = f'<a href="{strip}">{picture or "all panels"}</a>'
    words = [status + (", earlier" if entry["earlier"] else "")]
    if entry["seconds"]:
        words.append(_duration(entry["seconds"]))
    if entry["photos"] > 1:
        words.append(f"{entry['photos']} photos")
    if entry["attempts"] > 1:
        words.append(f"{entry['attempts']} attempts")
    words += [f"{key} {value:.4g}" for key, value in entry["metrics"].items()]
    text = f'{title}<p class="dim">{escape(" · ".join(words))}</p>'
    if entry["error"]:
        text += f'<p class="error">{escape(entry["error"])}</p>'
    if entry["warnings"]:
        hints = "&#10;".join(map(escape, entry["warnings"]))
        text += f'<p class="dim" title="{hints}">{len(entry["warnings"])} warnings</p>'
    return f'<div class="card {status}">{picture}<div>{text}</div></div>'


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
