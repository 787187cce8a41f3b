"""What the Hub refuses, said clearly: what was asked for, where, and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["HubError", "clear_hub_errors", "first_line", "missing_on_hub"]


class HubError(OSError):
    """Something that the Hub refuses, does not have, or cannot be asked."""


@contextmanager
def clear_hub_errors(repo_id: str) -> Iterator[None]:
    """Errors of huggingface_hub about a repository, in words that say what to do.

    Raises:
        HubError: In their place.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except HFValidationError as error:
        raise HubError(f"{repo_id!r} is not the name of a repository on the Hub; expected owner/name") from error
    except GatedRepoError as error:
        raise HubError(f"{repo_id} is gated: ask for access on its page, and log in with `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise missing_on_hub(repo_id) from error
    except RevisionNotFoundError as error:
        raise HubError(f"{repo_id} has no such revision: {first_line(error)}") from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise HubError(
            f"{repo_id} cannot be loaded: the Hub is out of reach (or HF_HUB_OFFLINE is set), and the cache does not "
            "have what is needed of it"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status == 401:
            raise HubError(f"the Hub does not accept this for {repo_id}: {_who_asks()}") from error
        if status == 403:
            raise HubError(
                f"the Hub does not let you do this to {repo_id} ({first_line(error)}): the token needs permission to "
                "write there"
            ) from error
        raise HubError(f"the Hub failed on {repo_id}: {first_line(error)}") from error
    except Exception as error:
        # huggingface_hub lets errors of its HTTP library through, and has changed that library before.
        if not any(each.__name__ == "TransportError" for each in type(error).__mro__):
            raise
        raise HubError(
            f"the Hub is out of reach for {repo_id} ({first_line(error)}): check the connection, or HF_ENDPOINT"
        ) from error


def missing_on_hub(repo_id: str) -> HubError:
    """The error of a repository that is not there for whoever asks."""
    return HubError(f"{repo_id} is not on the Hub, or it is private and {_who_asks()}; check the name")


def _who_asks() -> str:
    from huggingface_hub import get_token

    if get_token() is None:
        return "you are not logged in: `hf auth login`, or set HF_TOKEN"
    return "your token has no access to it"


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
