"""What is wrong with the files of a data set."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["DataReport", "Finding"]


Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """Something wrong with one file.

    Attributes:
        severity: "error": the loader refuses the folder for it, or a result would be wrong. "warning": worth a look.
        kind: what sort of thing it is, the same words for all of a sort.
        file: path in the folder, with a line where that helps.
        message: what was expected and what was found.
    """

    severity: Severity
    kind: str
    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


@dataclass
class DataReport:
    """What `check_data` found.

    Attributes:
        path: the folder.
        layout: "humanml3d", "kit-ml", "motionfolder", "cmu-mocap", or "motions" for a folder of motions without
            captions.
        counts: what is in it, by name, as text to show.
        findings: what is wrong with it, errors first.
    """

    path: Path
    layout: str
    counts: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        """The findings for which the folder cannot be used as it is."""
        return [finding for finding in self.findings if finding.severity == "error"]

    def add(self, severity: Severity, kind: str, file: str | Path, message: str | Exception) -> None:
        """Note a finding; a path is shown relative to the folder, and an error without the path it begins with."""
        if isinstance(file, Path):
            message = str(message).removeprefix(f"{file}: ").removeprefix(f"{file.name}: ")
            file = file.relative_to(self.path).as_posix()
        self.findings.append(Finding(severity, kind, file, str(message)))
