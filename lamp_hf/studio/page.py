"""The page of the studio, with Gradio: its components, and what happens when a user works with them."""

import base64
import functools
import itertools
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import gradio as gr

from . import actions, files, views
from .actions import Settings
from .models import StudioModels
from .sessions import CanceledError, Clip, Session, Sessions

__all__ = ["StudioPage"]

logger = logging.getLogger(__name__)

SCENES = 6
FIRST_SCENES = (("a person walks forward", 3.0), ("the person bows", 2.5))
MAX_SEED = 18  # digits
MAX_TEXT = 500  # characters of a sentence; the model reads far less
RATES = (("of the model", 0), *((f"{rate} fps", rate) for rate in (24, 30, 60)))
NO_CHARACTER = "none"
OWN_CHARACTER = "your file"
UPLOADS_CHECK_S, UPLOADS_KEEP_S = 60, 900
TO_PLAYER = """(start, end) => {
  const frame = document.querySelector("#motion iframe");
  frame?.contentWindow.postMessage({ type: "lamp-hf-span", start, end }, "*");
}"""
PROGRESS = gr.Progress()
PROGRESS_HEIGHT = 110  # of an empty part of the page, for the progress bar
CANCELED = "Canceled; nothing changed."
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", **PRIVATE}
Updates = dict[Any, Any]
Show = Callable[[int, int], None]


class StudioPage:
    """The page and its sessions.

    Args:
        models: The pipelines.
        name: Name of the model to show.
        sessions: What the open pages have made.

    Attributes:
        blocks: The page as `gradio.Blocks`.
        appearance: Arguments of `Blocks.launch` that determine how it looks.
    """

    def __init__(self, models: StudioModels, name: str, sessions: Sessions | None = None):
        self.models = models
        self.sessions = sessions or Sessions()
        self._figures = Path(tempfile.mkdtemp(prefix="lamp-hf-studio-"))
        self._downloads = itertools.count()
        self._closed = threading.Event()
        self._cancelable: list[Any] = []
        self.appearance = {
            "theme": gr.themes.Base(
                primary_hue="purple",
                neutral_hue="zinc",
                radius_size="md",
                font=["system-ui", "sans-serif"],  # the theme's own fonts come from another server
                font_mono=["ui-monospace", "monospace"],
            ).set(
                body_text_color_subdued="*neutral_600",
                body_text_color_subdued_dark="*neutral_300",
                block_info_text_color="*neutral_600",
                block_info_text_color_dark="*neutral_300",
                button_primary_background_fill="*primary_700",
                button_primary_background_fill_hover="*primary_800",
            ),
            "css": _asset("page.css"),
        }
        with gr.Blocks(
            title="Motion studio", analytics_enabled=False, delete_cache=(UPLOADS_CHECK_S, UPLOADS_KEEP_S)
        ) as self.blocks:
            self._build(name)
            self._connect()

    def launch(
        self, *, host: str = "127.0.0.1", port: int | None = None, share: bool = False, block: bool = False
    ) -> None:
        """Serve the page, until Ctrl-C if it blocks.

        Raises:
            OSError: The port is in use.
        """
        limits = self.models.limits
        threading.Thread(target=self._close_expired, daemon=True).start()
        try:
            self.blocks.launch(
                server_name=host,
                server_port=port,
                share=share,
                prevent_thread_lock=not block,
                quiet=True,
                inbrowser=False,
                ssr_mode=False,
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                max_file_size=limits.max_bytes,
                state_session_capacity=self.sessions.max_sessions,
                **self.appearance,
            )
        finally:
            if block:
                self.close()

    def close(self) -> None:
        """Stop serving, and delete what the sessions have made."""
        self._closed.set()
        self.blocks.close(verbose=False)
        self.sessions.close_all()
        shutil.rmtree(self._figures, ignore_errors=True)

    def _close_expired(self) -> None:
        while not self._closed.wait(UPLOADS_CHECK_S):
            self.sessions.close_expired()

    # ---- components ---------------------------------------------------------------------------------------

    def _build(self, name: str) -> None:
        gr.HTML(views.header(name))
        with gr.Tabs() as self.tabs:
            with gr.Tab("Write", id="write"):
                self._build_write()
            with gr.Tab("Storyboard", id="storyboard"):
                self._build_storyboard()
            with gr.Tab("Your file", id="file"):
                self._build_file()
        with gr.Column(visible=False, elem_id="work") as self.work:
            self._build_work()
        with gr.Row(elem_id="bar"):
            self.status = gr.HTML(views.status("Ready."), elem_id="status")
            self.cancel = gr.Button("Cancel", variant="stop", size="sm", scale=0, min_width=110, visible=False)
        self.receiver = gr.HTML(
            None, html_template="", js_on_load=_asset("download.js"), elem_id="receiver", apply_default_css=False
        )

    def _build_write(self) -> None:
        longest = min(self.models.limits.max_seconds, 20.0)
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                self.text = gr.Textbox(
                    label="What does the person do?",
                    placeholder="a person waves with both hands",
                    lines=2,
                    max_length=MAX_TEXT,
                    elem_id="text",
                )
                self.known = gr.Dropdown(
                    self.models.known_sentences,
                    value=None,
                    label="Or choose a sentence that the model knows",
                    visible=bool(self.models.known_sentences),
                )
            with gr.Column(scale=2, min_width=300):
                self.seconds = gr.Slider(
                    0, longest, value=0, step=0.5, label="Length in seconds", info="0: the model chooses"
                )
                with gr.Accordion("Seed, guidance and more", open=False):
                    self.seed, self.guidance, self.avoid = self._settings()
        self.make = gr.Button("Make four variations", variant="primary", elem_id="make")
        self.advice = gr.HTML("", visible=False)
        self.nearest = gr.Radio([], label="Sentences that the model knows", visible=False, elem_id="nearest")
        self.to_storyboard = gr.Button("Write a storyboard of these actions", visible=False, size="sm")
        self.takes = gr.HTML("", elem_id="takes", elem_classes="player", min_height=PROGRESS_HEIGHT)
        with gr.Row():
            self.keep = [gr.Button(f"Keep {k + 1}", visible=False, min_width=120) for k in range(actions.TAKES)]

    def _settings(self) -> tuple[gr.Textbox, gr.Slider, gr.Textbox]:
        seed = gr.Textbox(label="Seed", placeholder="empty: another one each time", max_length=MAX_SEED)
        guidance = gr.Slider(
            1,
            10,
            value=float(self.models.writer.model.generation_config.guidance_scale),  # type: ignore[union-attr, arg-type]
            step=0.5,
            label="Guidance",
            info="Larger values follow the text more closely",
        )
        avoid = gr.Textbox(label="What it should not show", max_length=MAX_TEXT)
        return seed, guidance, avoid

    def _build_storyboard(self) -> None:
        gr.Markdown("Scenes follow each other in one continuous motion. A length of 0 is chosen by the model.")
        longest = min(self.models.limits.max_seconds, 20.0)
        self.scene_rows, self.scene_texts, self.scene_seconds = [], [], []
        for k in range(SCENES):
            text, seconds = FIRST_SCENES[k] if k < len(FIRST_SCENES) else ("", 0.0)
            with gr.Row(visible=k < len(FIRST_SCENES)) as row:
                self.scene_texts.append(
                    gr.Textbox(text, label=f"Scene {k + 1}", max_length=MAX_TEXT, scale=4, min_width=220)
                )
                self.scene_seconds.append(
                    gr.Number(seconds, label="Seconds", minimum=0, maximum=longest, step=0.5, scale=1, min_width=90)
                )
            self.scene_rows.append(row)
        self.num_scenes = gr.State(len(FIRST_SCENES))
        with gr.Row():
            self.add_scene = gr.Button("Add a scene", min_width=140)
            self.remove_scene = gr.Button("Remove the last scene", min_width=140)
            self.board_seed = gr.Textbox(
                label="Seed", placeholder="empty: another one each time", max_length=MAX_SEED, min_width=140
            )
        self.make_board = gr.Button("Make the storyboard", variant="primary")

    def _build_file(self) -> None:
        limits = self.models.limits
        self.file = gr.File(
            label=f"Motion file ({' '.join(files.MOTIONS)}), up to {limits.max_bytes / 2**20:.0f} MB and "
            f"{limits.max_seconds:g} s; it is deleted after it is read",
            file_types=list(files.MOTIONS),
            height=150,
            elem_id="file",
        )
        with gr.Column(visible=False) as self.upload_view:
            self.upload_player = gr.HTML("", elem_id="upload", elem_classes="player")
            self.upload_facts = gr.HTML("")
            with gr.Row():
                self.describe = gr.Button("Describe it", min_width=140)
                self.find = gr.Button("Find similar motions and sentences", min_width=140)
                self.open = gr.Button("Edit or continue it", variant="primary", min_width=140)
        with gr.Row(visible=self.models.search is not None):
            self.query = gr.Textbox(label="Or search the motions of this studio by text", max_length=MAX_TEXT, scale=4)
            self.find_text = gr.Button("Search", scale=1, min_width=120)
        self.found = gr.HTML("", elem_id="found", min_height=PROGRESS_HEIGHT)
        self.found_player = gr.HTML("", elem_id="found-player", elem_classes="player")

    def _build_work(self) -> None:
        gr.Markdown("## Your motion")
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                self.motion = gr.HTML(
                    "",
                    js_on_load=_asset("span.js"),
                    elem_id="motion",
                    elem_classes="player",
                    min_height=PROGRESS_HEIGHT,
                )
                self.facts = gr.HTML("")
            with gr.Column(scale=2, min_width=320), gr.Tabs():
                with gr.Tab("Edit"):
                    self._build_edit()
                with gr.Tab("Continue"):
                    self.more_text = gr.Textbox(
                        label="What happens next?", placeholder="the person bows", max_length=MAX_TEXT
                    )
                    self.more_seconds = gr.Slider(1, 10, value=3, step=0.5, label="Seconds to add")
                    self.more = gr.Button("Continue the motion", variant="primary")
                with gr.Tab("Character"):
                    self._build_character()
                with gr.Tab("Download"):
                    self._build_download()

    def _build_edit(self) -> None:
        gr.Markdown("Drag over the purple strip below the player, or type the times.")
        with gr.Row():
            self.start = gr.Number(0, label="From (s)", minimum=0, step=0.1, min_width=90, elem_id="from")
            self.end = gr.Number(0, label="To (s)", minimum=0, step=0.1, min_width=90, elem_id="to")
        self.edit_text = gr.Textbox(
            label="What happens there?", placeholder="the person waves with both hands", max_length=MAX_TEXT
        )
        self.edit = gr.Button("Replace this span", variant="primary")
        self.undo = gr.Button("Undo", interactive=False)

    def _build_character(self) -> None:
        self.rig = gr.Dropdown(
            [NO_CHARACTER, *files.RIGS], value=NO_CHARACTER, label="Character", info="A well-known rig, or your file"
        )
        self.character_file = gr.File(
            label=f"Your character ({' '.join(files.CHARACTERS)})",
            file_types=list(files.CHARACTERS),
            height=120,
            elem_id="character-file",
        )
        self.figure = gr.Model3D(
            label="The motion on the character", height=360, visible=False, interactive=False, elem_id="figure"
        )

    def _build_download(self) -> None:
        with gr.Row():
            self.mirror = gr.Checkbox(label="Swap left and right", min_width=120)
            self.loop = gr.Checkbox(label="Seamless loop", min_width=120)
            self.in_place = gr.Checkbox(label="In place", min_width=120)
        self.rate = gr.Dropdown(list(RATES), value=0, label="Frame rate")
        with gr.Row():
            self.download = {
                suffix: gr.Button(suffix.upper(), min_width=80, elem_id=f"download-{suffix}")
                for suffix in files.FORMATS
            }
        gr.Markdown("With a character, BVH, GLB and VRMA contain the character's joints.")

    # ---- events -------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        settings = [self.seed, self.guidance, self.avoid]
        advice = [self.advice, self.nearest, self.to_storyboard]
        work = [
            self.work,
            self.motion,
            self.facts,
            self.start,
            self.end,
            self.undo,
            self.rig,
            self.figure,
        ]
        made = [*advice, self.takes, *self.keep]
        for trigger in (self.make.click, self.text.submit):
            self._job(trigger, self.on_make, [self.text, self.seconds, *settings], made, self.takes)
        for source in (self.known, self.nearest):
            source.input(lambda text: text, source, self.text, **QUIET)
        for number, button in enumerate(self.keep):
            keep = functools.partial(self.on_keep, number)
            self._quick(button.click, keep, [], work)
        self._quick(
            self.to_storyboard.click,
            self.on_to_storyboard,
            [self.text],
            [self.tabs, self.num_scenes, *self.scene_rows, *self.scene_texts, *self.scene_seconds],
        )

        for button, change in ((self.add_scene, 1), (self.remove_scene, -1)):
            resize = functools.partial(self.on_resize, change)
            button.click(resize, self.num_scenes, [self.num_scenes, *self.scene_rows], **QUIET)
        board = [self.board_seed, *self.scene_texts, *self.scene_seconds]
        self._job(self.make_board.click, self.on_storyboard, [self.num_scenes, *board], work, self.make_board)

        uploaded = [self.file, self.upload_view, self.upload_player, self.upload_facts, self.found, self.found_player]
        self._quick(self.file.upload, self.on_upload, [self.file], uploaded)
        found = [self.found, self.found_player]
        self._job(self.describe.click, self.on_describe, [], found, self.found)
        self._job(self.find.click, self.on_find, [], found, self.found)
        for trigger in (self.find_text.click, self.query.submit):
            self._job(trigger, self.on_find, [self.query], found, self.found)
        self._quick(self.open.click, self.on_open, [], work)

        self.motion.span(_span, None, [self.start, self.end], **QUIET)
        for edge in (self.start, self.end):
            edge.input(None, [self.start, self.end], None, js=TO_PLAYER)
        span = [self.edit_text, self.start, self.end, *settings]
        for trigger in (self.edit.click, self.edit_text.submit):
            self._job(trigger, self.on_edit, span, work, self.motion)
        for trigger in (self.more.click, self.more_text.submit):
            self._job(trigger, self.on_more, [self.more_text, self.more_seconds, *settings], work, self.motion)
        self._quick(self.undo.click, self.on_undo, [], work)

        self._quick(self.rig.input, self.on_rig, [self.rig], [self.figure])
        self._quick(self.character_file.upload, self.on_character, [self.character_file], [*work, self.character_file])
        self.figure.change(self.on_figure, self.figure, None, **QUIET)
        switches = [self.mirror, self.loop, self.in_place, self.rate]
        for suffix, button in self.download.items():
            write = functools.partial(self.on_download, suffix)
            done = self._job(button.click, write, switches, [self.receiver], button, group="files")
            done.then(lambda: None, None, self.receiver, **QUIET)  # the browser has it now

        self.cancel.click(self.on_cancel, None, [self.status, self.cancel], cancels=self._cancelable, **QUIET)
        self.blocks.unload(self.on_close)
        self.blocks.queue(max_size=self.models.limits.max_requests, api_open=False)

    def _quick(self, trigger: Any, handler: Callable[..., Updates], inputs: list[Any], outputs: list[Any]) -> Any:
        """Run a handler that takes less than a second."""
        call = self._explained(handler)
        return trigger(call, inputs, [*outputs, self.status], concurrency_limit=8, show_progress="hidden", **PRIVATE)

    def _explained(self, handler: Callable[..., Updates], show_progress: bool = False) -> Callable[..., Updates]:
        """Return a function for Gradio that gives a handler its session and shows errors in the status line.

        Errors that the library explains are shown; all others are logged.
        """

        def run(request: gr.Request, progress: gr.Progress = PROGRESS, *values: Any) -> Updates:
            try:
                session = self.sessions.of(request.session_hash)
                shown = (_steps(progress),) if show_progress else ()
                return handler(session, *shown, *values)
            except CanceledError:
                return {self.status: views.status(CANCELED)}
            except FileNotFoundError:
                return {self.status: views.status("The upload is gone; send the file again.", "error")}
            except (TypeError, ValueError) as error:
                return {self.status: views.status(_sentence(error), "error")}
            except Exception:
                logger.exception("an action of the studio failed")
                return {self.status: views.status("The studio failed; its log says why.", "error")}

        return run

    def _job(
        self,
        trigger: Any,
        handler: Callable[..., Updates],
        inputs: list[Any],
        outputs: list[Any],
        shown: Any,
        group: str = "model",
    ) -> Any:
        """Run a handler in a queue, with its progress on a component, until it ends or the user cancels it.

        Jobs of a group run one after the other, because PyTorch itself uses all cores.
        """
        started = trigger(self.on_start, None, [self.status, self.cancel], **QUIET)
        done = started.then(
            self._explained(handler, show_progress=True),
            inputs,
            [*outputs, self.status],
            show_progress="full",
            show_progress_on=shown,
            concurrency_limit=1,
            concurrency_id=group,
            **PRIVATE,
        )
        self._cancelable.append(done)
        return done.then(self.on_end, None, self.cancel, **QUIET)

    # ---- handlers: jobs -----------------------------------------------------------------------------------

    def on_start(self, request: gr.Request) -> Updates:
        """Start a job of a session."""
        self.sessions.of(request.session_hash).start()
        return {self.status: views.status("Working …", "working"), self.cancel: gr.update(visible=True)}

    def on_end(self, request: gr.Request) -> Updates:
        """Hide the button to cancel."""
        return {self.cancel: gr.update(visible=False)}

    def on_cancel(self, request: gr.Request) -> Updates:
        """Cancel the job of a session."""
        self.sessions.of(request.session_hash).job.cancel()
        return {
            self.status: views.status(CANCELED),
            self.cancel: gr.update(visible=False),
        }

    def on_close(self, request: gr.Request) -> None:
        """End a session: its page was closed."""
        self.sessions.close(request.session_hash)

    def on_make(
        self,
        session: Session,
        show: Show,
        text: str,
        seconds: float,
        seed: str | None,
        guidance: float,
        avoid: str | None,
    ) -> Updates:
        """Generate variations."""
        began = time.monotonic()
        job = session.job
        found = actions.advise(self.models, text)
        results = actions.generate_takes(
            self.models,
            text,
            seconds=seconds or None,
            settings=_settings(seed, guidance, avoid),
            job=job,
            progress=show,
        )
        session.takes = [result["motion"] for result in results]
        motions = [
            motion.with_text(f"{k + 1} · seed {result['seed']}")
            for k, (motion, result) in enumerate(zip(session.takes, results, strict=True))
        ]
        line = f"{len(results)} variations in {time.monotonic() - began:.1f} s. Keep the one you like."
        return {
            self.takes: views.player(motions),
            **{button: gr.update(visible=True) for button in self.keep},
            self.advice: gr.update(value=views.advice(found), visible=bool(found)),
            self.nearest: gr.update(choices=list(found.nearest), value=None, visible=bool(found.nearest)),
            self.to_storyboard: gr.update(visible=bool(found.actions)),
            self.status: views.status(line),
        }

    def on_storyboard(self, session: Session, show: Show, count: int, seed: str | None, *rest: Any) -> Updates:
        """Generate a storyboard."""
        texts, seconds = rest[:count], rest[SCENES : SCENES + count]
        clip = actions.generate_storyboard(
            self.models,
            [(text, length or None) for text, length in zip(texts, seconds, strict=True)],
            settings=_settings(seed),
            job=session.job,
            progress=show,
        )
        return self._keep(session, clip, "The storyboard is ready below.")

    def on_edit(
        self,
        session: Session,
        show: Show,
        text: str,
        start: float | None,
        end: float | None,
        seed: str | None,
        guidance: float,
        avoid: str | None,
    ) -> Updates:
        """Replace a span of the motion."""
        clip = actions.edit_span(
            self.models,
            session.clip,
            text,
            start or 0.0,
            end or 0.0,
            settings=_settings(seed, guidance, avoid),
            job=session.job,
            progress=show,
        )
        line = f"{start or 0.0:.2f} to {end or 0.0:.2f} s are new; the other frames are as before."
        return {**self._keep(session, clip, line), self.start: start, self.end: end}

    def on_more(
        self,
        session: Session,
        show: Show,
        text: str,
        seconds: float,
        seed: str | None,
        guidance: float,
        avoid: str | None,
    ) -> Updates:
        """Continue the motion."""
        clip = actions.extend(
            self.models,
            session.clip,
            text,
            seconds,
            settings=_settings(seed, guidance, avoid),
            job=session.job,
            progress=show,
        )
        return self._keep(session, clip, f"The motion is {clip.motion.duration:.1f} s long now.")

    def on_describe(self, session: Session, show: Show) -> Updates:
        """Caption the upload."""
        answers = actions.caption(self.models, _uploaded(session), job=session.job)
        return {
            self.found: views.captions(answers),
            self.found_player: "",
            self.status: views.status("Described. The percentage is how sure the model is of its words."),
        }

    def on_find(self, session: Session, show: Show, *query: str) -> Updates:
        """Search for a text, or for the upload."""
        motions, sentences = actions.search(self.models, query[0] if query else _uploaded(session), job=session.job)
        shown = [hit.motion for hit in motions if hit.motion is not None]
        return {
            self.found: views.hits(motions, sentences),
            self.found_player: views.player(shown) if shown else "",
            self.status: views.status(f"{len(motions)} motions and {len(sentences)} sentences were found."),
        }

    def on_download(
        self,
        suffix: str,
        session: Session,
        show: Show,
        mirror: bool,
        loop: bool,
        in_place: bool,
        rate: float,
    ) -> Updates:
        """Write a file, and send it to the browser."""
        clip, job = session.clip, session.job

        def on_frame(done: int, total: int) -> None:
            job.check()
            show(done, total)

        content = files.write_motion(
            clip.motion,
            suffix,
            character=session.character,
            progress=on_frame,
            mirror=mirror,
            loop=loop,
            in_place=in_place,
            fps=rate or None,
        )
        name = files.file_name(clip.motion, suffix)
        file = {
            "name": name,
            "type": files.FORMATS[suffix],
            "content": base64.b64encode(content).decode(),
            "number": next(self._downloads),  # so that the same file can be saved twice
        }
        return {self.receiver: file, self.status: views.status(f"{name}, {len(content) / 1e3:,.0f} kB")}

    # ---- handlers: quick ones -----------------------------------------------------------------------------

    def on_keep(self, number: int, session: Session) -> Updates:
        """Work on a variation."""
        if number >= len(session.takes):
            raise ValueError("the variations are gone; make them again")
        return self._keep(session, Clip(session.takes[number]), f"Variation {number + 1} is below.")

    def on_open(self, session: Session) -> Updates:
        """Work on the upload."""
        motion = self.models.captioner.read_motion(_uploaded(session))
        return self._keep(session, Clip(motion), "Your file is below; edit a span, or continue it.")

    def on_undo(self, session: Session) -> Updates:
        """Return to the motion before."""
        session.undo()
        return self._show(session, "The last change is undone.")

    def on_to_storyboard(self, session: Session, text: str) -> Updates:
        """Write the actions of a text into the storyboard."""
        scenes = list(actions.advise(self.models, text).actions)[:SCENES] or [text]
        return {
            self.tabs: gr.update(selected="storyboard"),
            self.num_scenes: len(scenes),
            **{row: gr.update(visible=k < len(scenes)) for k, row in enumerate(self.scene_rows)},
            **{box: scenes[k] if k < len(scenes) else "" for k, box in enumerate(self.scene_texts)},
            **dict.fromkeys(self.scene_seconds, 0),
            self.status: views.status("Each action is a scene; change them, and make the storyboard."),
        }

    def on_resize(self, change: int, count: int) -> Updates:
        """Add a scene, or remove the last one."""
        count = min(max(count + change, 1), SCENES)
        updates: Updates = {row: gr.update(visible=k < count) for k, row in enumerate(self.scene_rows)}
        return {self.num_scenes: count, **updates}

    def on_upload(self, session: Session, path: str | None) -> Updates:
        """Read the motion of a user."""
        cleared = {self.file: None}
        try:
            motion = files.read_upload(Path(path or ""), self.models.limits)
        except (TypeError, ValueError) as error:
            return {**cleared, self.status: views.status(_sentence(error), "error")}
        session.upload = motion
        return {
            **cleared,
            self.upload_view: gr.update(visible=True),
            self.upload_player: views.player([motion]),
            self.upload_facts: views.facts(motion),
            self.found: "",
            self.found_player: "",
            self.status: views.status(f"{motion.name or 'Your file'} was read, and the file is deleted."),
        }

    def on_rig(self, session: Session, rig: str) -> Updates:
        """Choose a character without a file."""
        if rig == OWN_CHARACTER:
            raise ValueError("send your character again; it was replaced by another one")
        session.character = None if rig == NO_CHARACTER else files.Character.of_rig(rig)
        line = "No character." if session.character is None else f"The motion is shown on the rig {rig}."
        return {**self._figure(session), self.status: views.status(line)}

    def on_character(self, session: Session, path: str | None) -> Updates:
        """Read the character of a user, and show the motion on it."""
        cleared = {self.character_file: None}
        try:
            session.character = files.read_character(Path(path or ""), self.models.limits)
        except (TypeError, ValueError) as error:
            return {**cleared, self.status: views.status(_sentence(error), "error")}
        line = f"{session.character.name} was read, and the file is deleted."
        if session.character.skin is None:
            line += " It has no figure to show; its joints are in the downloads."
        rig = gr.update(choices=[NO_CHARACTER, *files.RIGS, OWN_CHARACTER], value=OWN_CHARACTER)
        return {**cleared, **self._figure(session), self.rig: rig, self.status: views.status(line)}

    def on_figure(self, path: str | None, request: gr.Request) -> None:
        """Remember the copy of a figure that the browser fetches, to delete it with the session."""
        if path is not None:
            self.sessions.of(request.session_hash).files.append(Path(path))

    # ---- the motion that the user works on ----------------------------------------------------------------

    def _keep(self, session: Session, clip: Clip, line: str) -> Updates:
        session.keep(clip)
        return self._show(session, line)

    def _show(self, session: Session, line: str) -> Updates:
        motion = session.clip.motion
        return {
            self.work: gr.update(visible=True),
            self.motion: views.clip_player(session.clip),
            self.facts: views.facts(motion),
            self.start: round(motion.duration / 3, 2),
            self.end: round(2 * motion.duration / 3, 2),
            self.undo: gr.update(interactive=session.can_undo),
            **self._figure(session),
            self.status: views.status(line),
        }

    def _figure(self, session: Session) -> Updates:
        """Show the motion on the character."""
        session.remove_files()
        path = None
        if session.character is not None and session.has_clip:
            path = files.write_figure(session.clip.motion, session.character, self._figures)
        if path is not None:
            session.files.append(path)
        return {self.figure: gr.update(value=None if path is None else str(path), visible=path is not None)}


def _settings(seed: str | None, guidance: float | None = None, avoid: str | None = None) -> Settings:
    # A box that was never shown has no value.
    text = (seed or "").strip()
    if text and not text.isdecimal():
        raise ValueError(f"the seed {text!r} is not a whole number; leave it empty for another one each time")
    return Settings(int(text) if text else None, guidance, avoid or "")


def _span(event: gr.EventData) -> tuple[float, float]:
    """Return the span that the player sent."""
    start, end = (float(getattr(event, name)) for name in ("start", "end"))
    return round(start, 2), round(end, 2)


def _uploaded(session: Session) -> Any:
    if session.upload is None:
        raise ValueError("there is no file yet; send one first")
    return session.upload


def _steps(progress: gr.Progress) -> Show:
    def show(done: int, total: int) -> None:
        progress((done, total), desc="Working")

    return show


def _sentence(error: Exception) -> str:
    message = " ".join(str(error).split())
    return f"{message[:1].upper()}{message[1:]}."


@functools.cache
def _asset(name: str) -> str:
    return resources.files("lamp_hf.studio").joinpath(name).read_text(encoding="utf-8")
