"""The contact sheet: one HTML page that needs nothing but the thumbnails beside it."""

from collections.abc import Sequence
from html import escape
from typing import Final

from offload.cli.demo.audit import Photo, Verdict

MARK: Final = '<meta name="generator" content="offload demo">'
_STYLE: Final = """\
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); }
figure { margin: 0; } img { max-width: 100%; border-radius: 4px; }
figcaption { font-size: .8rem; overflow-wrap: anywhere; opacity: .8; }
.moved figcaption::after { content: " · moved after the kill"; color: #c2410c; }
"""


def under_way() -> str:
    """Return the page that stands there until the demo is over."""
    return _page("<h1>offload demo</h1>\n<p>Under way, or broken off.</p>")


def page(photos: Sequence[Photo], verdict: Verdict, summary: Sequence[tuple[str, str]]) -> str:
    """Return the page with every thumbnail, what failed, and the summary."""
    figures = [_figure(photo, verdict) for photo in photos if photo.job_id in verdict.done]
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in summary)
    failed = [f"{photo.name}: {reason}" for photo, reason in verdict.failed]
    return _page(
        "\n".join(
            [
                "<h1>offload demo</h1>",
                f"<dl>{rows}</dl>",
                _list("Failed", failed),
                _list("Faults", verdict.faults),
                "<main>",
                *figures,
                "</main>",
            ]
        )
    )


def _figure(photo: Photo, verdict: Verdict) -> str:
    thumb = verdict.done[photo.job_id]
    mark = ' class="moved"' if photo.job_id in verdict.moved else ""
    return (
        f'<figure{mark}><img src="{escape(thumb.name)}" alt="" loading="lazy">'
        f"<figcaption>{escape(photo.name)} · {photo.size_bytes / 1e6:.1f} MB · "
        f"{escape(thumb.worker)}, attempt {thumb.attempt}</figcaption></figure>"
    )


def _list(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return f"<h2>{title}</h2><ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _page(body: str) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n{MARK}\n'
        f"<title>offload demo</title>\n<style>\n{_STYLE}</style></head>\n<body>\n{body}\n"
        "</body></html>\n"
    )
