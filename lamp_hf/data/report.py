"""Report of the problems in the files of a dataset."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["DataReport", "Finding"]


Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """Problem with one file.

    Attributes:
        severity: "error" if the loader refuses the folder or a result would be wrong; "warning" if the problem is only
            worth a look.
        kind: Category of the problem.
        file: Path in the folder, with a line number where useful.
        message: The expected and the actual content.
    """

    severity: Severity
    kind: str
    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


@dataclass
class DataReport:
    """Result of `check_data`.

    Attributes:
        path: The folder.
        layout: "humanml3d", "kit-ml", "motionfolder", "cmu-mocap", "motions" for a folder of motions without captions,
            or "unknown".
        counts: Statistics of the folder, by name, as text.
        findings: Problems, errors first.
    """

    path: Path
    layout: str
    counts: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        """Findings that must be fixed before the folder can be used."""
        return [finding for finding in self.findings if finding.severity == "error"]

    def add(self, severity: Severity, kind: str, file: str | Path, message: str | Exception) -> None:
        """Add a finding. Paths are shown relative to the folder, and a message loses the path at its beginning."""
        if isinstance(file, Path):
            message = str(message).removeprefix(f"{file}: ").removeprefix(f"{file.name}: ")
            file = file.relative_to(self.path).as_posix()
        self.findings.append(Finding(severity, kind, file, str(message)))
