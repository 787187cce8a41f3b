"""Limits of a server."""

from dataclasses import dataclass, fields

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Limits that protect a server from large requests and from too many of them.

    Attributes:
        max_bytes: Largest body of a request.
        max_inputs: Largest number of texts or motions of a request, and of motions that it generates.
        max_seconds: Longest motion to generate or to read, in seconds.
        max_requests: Largest number of requests in progress; more are refused with status 503.
        max_batch: Largest number of motions to generate together.
        max_wait_s: Longest time that a request waits for others to generate motions together.
        max_upload_s: Longest time that the body of a request may take to arrive.

    Raises:
        ValueError: A limit is not above 0.
    """

    max_bytes: int = 16 * 2**20
    max_inputs: int = 16
    max_seconds: float = 60.0
    max_requests: int = 64
    max_batch: int = 16
    max_wait_s: float = 0.01
    max_upload_s: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"{field.name}={getattr(self, field.name)!r} is not above 0")
