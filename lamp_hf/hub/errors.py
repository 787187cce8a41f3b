"""Clear errors for requests to the Hub: what failed, for which repository, and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["HubError", "clear_hub_errors", "first_line", "missing_on_hub"]


class HubError(OSError):
    """A request that the Hub refuses or cannot answer, or a Hub that cannot be reached."""


@contextmanager
def clear_hub_errors(repo_id: str) -> Iterator[None]:
    """Replace errors of huggingface_hub about a repository with errors that say what to do.

    Args:
        repo_id: Name of the repository.

    Raises:
        HubError: huggingface_hub raised an error.
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
        raise HubError(f"{repo_id!r} is not a valid name of a Hub repository; expected owner/name") from error
    except GatedRepoError as error:
        raise HubError(f"{repo_id} is gated: request access on its page, and log in with `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise missing_on_hub(repo_id) from error
    except RevisionNotFoundError as error:
        raise HubError(f"{repo_id} has no such revision: {first_line(error)}") from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise HubError(
            f"{repo_id} cannot be loaded: the Hub cannot be reached (or HF_HUB_OFFLINE is set), and files that are "
            "needed are not in the cache"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status == 401:
            raise HubError(f"the Hub refuses this request for {repo_id}: {_who_asks()}") from error
        if status == 403:
            raise HubError(
                f"you are not allowed to do this to {repo_id} ({first_line(error)}); use a token that may write there"
            ) from error
        raise HubError(f"the Hub failed on {repo_id}: {first_line(error)}") from error
    except Exception as error:
        # huggingface_hub passes on errors of its HTTP library, and has changed that library before.
        if not any(each.__name__ == "TransportError" for each in type(error).__mro__):
            raise
        raise HubError(
            f"the Hub cannot be reached for {repo_id} ({first_line(error)}): check the connection, or HF_ENDPOINT"
        ) from error


def missing_on_hub(repo_id: str) -> HubError:
    """Return the error for a repository that does not exist or is not visible to the current user."""
    return HubError(f"{repo_id} is not on the Hub, or it is private and {_who_asks()}; check the name")


def _who_asks() -> str:
    from huggingface_hub import get_token

    if get_token() is None:
        return "you are not logged in: `hf auth login`, or set HF_TOKEN"
    return "your token does not have access to it"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not empty, or the name of its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
