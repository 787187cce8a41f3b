"""What each open page has made. Sessions share nothing, and their files are removed when they end."""

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lamp_hf.motion.motion import Motion
from lamp_hf.motion.retarget import Character

__all__ = ["CanceledError", "Clip", "Job", "Session", "Sessions"]

MAX_UNDO = 20


class CanceledError(Exception):
    """The user canceled a job."""


class Job:
    """One or more computations that can be canceled from another thread."""

    def __init__(self) -> None:
        self._canceled = threading.Event()

    @property
    def canceled(self) -> bool:
        """True after `cancel`."""
        return self._canceled.is_set()

    def cancel(self) -> None:
        """Make the next `check` raise an error."""
        self._canceled.set()

    def check(self) -> None:
        """Return if the job may continue.

        Raises:
            CanceledError: The job was canceled.
        """
        if self.canceled:
            raise CanceledError("canceled")


@dataclass(frozen=True)
class Clip:
    """The motion that a user works on.

    Attributes:
        motion: The motion, at the frame rate of the model.
        scenes: Text, start and end in seconds of each scene, if it is a storyboard.
    """

    motion: Motion
    scenes: Sequence[tuple[str, float, float]] = ()


@dataclass(eq=False)
class Session:
    """Everything that belongs to one open page.

    Attributes:
        takes: Variations to choose from.
        upload: Motion of the user's file.
        character: Character that motions are shown on.
        job: The job in progress, or the last one.
        files: Files that the browser of this user can fetch.
    """

    takes: list[Motion] = field(default_factory=list)
    upload: Motion | None = None
    character: Character | None = None
    job: Job = field(default_factory=Job)
    files: list[Path] = field(default_factory=list)
    _clips: list[Clip] = field(default_factory=list)

    @property
    def clip(self) -> Clip:
        """The motion that the user works on.

        Raises:
            ValueError: There is none yet.
        """
        if not self._clips:
            raise ValueError("there is no motion yet; keep a variation, make a storyboard, or open a file")
        return self._clips[-1]

    @property
    def has_clip(self) -> bool:
        """Whether there is a motion that the user works on."""
        return bool(self._clips)

    @property
    def can_undo(self) -> bool:
        """Whether there was another motion before."""
        return len(self._clips) > 1

    def keep(self, clip: Clip) -> None:
        """Work on another motion; `undo` returns to the one before."""
        self._clips = [*self._clips, clip][-MAX_UNDO:]

    def undo(self) -> Clip:
        """Return to the motion before, if there is one."""
        if self.can_undo:
            self._clips.pop()
        return self.clip

    def start(self) -> Job:
        """Start a job. Jobs of a user that run at the same time are canceled together."""
        if self.job.canceled:
            self.job = Job()
        return self.job

    def remove_files(self) -> None:
        """Delete the files that the browser can fetch."""
        for path in self.files:
            with suppress(OSError):
                path.unlink()
        self.files.clear()

    def close(self) -> None:
        """Stop the job and delete the files."""
        self.job.cancel()
        self.remove_files()


class Sessions:
    """The sessions of all open pages; threads may share it.

    Args:
        max_sessions: Number of sessions to keep; the one that was not used for the longest time is closed first.
        max_idle_s: Seconds without use after which a session is closed.

    Raises:
        ValueError: A limit is not above 0.
    """

    def __init__(self, max_sessions: int = 256, max_idle_s: float = 3600.0):
        if max_sessions < 1 or not max_idle_s > 0:
            raise ValueError(f"max_sessions={max_sessions} and max_idle_s={max_idle_s:g} must be above 0")
        self.max_sessions = max_sessions
        self.max_idle_s = max_idle_s
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, tuple[Session, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def of(self, key: str | None) -> Session:
        """Return the session of a page, a new one the first time.

        Raises:
            ValueError: The page has no key.
        """
        if not key:
            raise ValueError("the request belongs to no page; open the studio in a browser")
        now = time.monotonic()
        with self._lock:
            session, _ = self._sessions.pop(key, (Session(), now))
            self._sessions[key] = (session, now)
            expired = self._take_expired(now)
        for other in expired:
            other.close()
        return session

    def close(self, key: str | None) -> None:
        """End the session of a page, if it has one."""
        with self._lock:
            session, _ = self._sessions.pop(key or "", (None, 0.0))
        if session is not None:
            session.close()

    def close_expired(self) -> None:
        """End the sessions that were not used for `max_idle_s`."""
        with self._lock:
            expired = self._take_expired(time.monotonic())
        for session in expired:
            session.close()

    def close_all(self) -> None:
        """End all sessions."""
        with self._lock:
            sessions = [session for session, _ in self._sessions.values()]
            self._sessions.clear()
        for session in sessions:
            session.close()

    def _take_expired(self, now: float) -> list[Session]:
        """Remove and return the sessions that are too old or too many; the oldest is first."""
        expired = []
        while self._sessions:
            key, (session, used) = next(iter(self._sessions.items()))
            if len(self._sessions) <= self.max_sessions and now - used <= self.max_idle_s:
                break
            del self._sessions[key]
            expired.append(session)
        return expired
