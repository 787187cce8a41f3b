"""The parts of the page that are HTML: players, advice, captions, hits and the status line."""

from collections.abc import Sequence
from html import escape
from typing import Any

from lamp_hf.motion.formats.html import motion_to_html
from lamp_hf.motion.motion import Motion

from .actions import Advice, Hit
from .sessions import Clip

__all__ = ["advice", "captions", "clip_player", "facts", "header", "hits", "player", "status"]

TAKES_HEIGHT = 460
CLIP_HEIGHT = 480


def header(model: str) -> str:
    """Return the title of the page."""
    return (
        '<header id="title"><h1>Motion studio</h1><p>Write what a person does, and keep the motion you like. '
        f"<span>Model: {escape(model)}</span></p></header>"
    )


def status(text: str, kind: str = "done") -> str:
    """Return the status line, which screen readers announce.

    Args:
        text: One sentence.
        kind: `"done"`, `"working"` or `"error"`.
    """
    role = "alert" if kind == "error" else "status"
    return f'<div class="line {kind}" role="{role}" aria-live="polite">{escape(text)}</div>'


def player(motions: Sequence[Motion]) -> str:
    """Return a player of motions side by side."""
    return _safe(motion_to_html(list(motions), height=TAKES_HEIGHT))


def clip_player(clip: Clip) -> str:
    """Return a player of the motion that the user works on, with a span to choose."""
    duration = clip.motion.duration
    span = (round(duration / 3, 2), round(2 * duration / 3, 2))
    return _safe(motion_to_html(clip.motion, height=CLIP_HEIGHT, scenes=clip.scenes, span=span))


def facts(motion: Motion) -> str:
    """Return length, frame rate and path of a motion."""
    report = motion.report()
    text = motion.text or motion.name or "no caption"
    return (
        f'<p class="facts"><strong dir="auto">{escape(text)}</strong><br>{report.duration:.2f} s · {report.num_frames} '
        f"frames at {report.fps:g} fps · path of {report.distance_m:.1f} m</p>"
    )


def advice(found: Advice) -> str:
    """Return what a user should know about a text."""
    parts = []
    if found.unknown:
        parts.append(
            f"<p>The model has not learned <q dir='auto'>{escape(found.text)}</q>, so the motion may not match it. "
            "The nearest sentences that it knows are below; choose one to write it.</p>"
        )
    if found.actions:
        items = "".join(f"<li dir='auto'>{escape(action)}</li>" for action in found.actions)
        parts.append(
            f"<p>The text names {len(found.actions)} actions, but a motion usually shows only the first. A storyboard "
            f"shows them one after the other:</p><ol>{items}</ol>"
        )
    if found.ignored:
        parts.append(f"<p>The text is too long; the model does not read <q dir='auto'>{escape(found.ignored)}</q>.</p>")
    return f'<div class="advice" role="note">{"".join(parts)}</div>' if parts else ""


def captions(answers: Sequence[dict[str, Any]]) -> str:
    """Return the captions of a motion, with their times if it is long."""
    rows = "".join(
        f"<li><span dir='auto'>{escape(answer['caption'])}</span> "
        f"<small>{_when(answer)}{answer['score']:.0%}</small></li>"
        for answer in answers
    )
    return f'<div class="found"><h3>What the model sees</h3><ul>{rows}</ul></div>'


def hits(motions: Sequence[Hit], sentences: Sequence[Hit]) -> str:
    """Return what a search found; `player` shows the motions."""
    parts = []
    for title, found in (("Most similar motions", motions), ("Nearest sentences that the model knows", sentences)):
        if found:
            rows = "".join(
                f"<li><span dir='auto'>{escape(hit.text)}</span> <small>{hit.score:.2f}</small></li>" for hit in found
            )
            parts.append(f"<h3>{title}</h3><ol>{rows}</ol>")
    return f'<div class="found">{"".join(parts) or "<p>Nothing was found.</p>"}</div>'


def _when(answer: dict[str, Any]) -> str:
    return f"{answer['start']:.1f} to {answer['end']:.1f} s · " if "start" in answer else ""


def _safe(html: str) -> str:
    """Hide braces, which Gradio would read as placeholders of a template."""
    return html.replace("{", "&#123;").replace("}", "&#125;").replace("`", "&#96;")
