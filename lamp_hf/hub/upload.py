"""Puts files onto the Hub, all of them in one commit or none."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from lamp_hf.hub_errors import HubError, clear_hub_errors, first_line

__all__ = ["CARD", "Target"]

CARD = "README.md"


class Target:
    """A repository that is, or will be, written to.

    Args:
        repo_id: `owner/name`, or a name of your own.
        repo_type: `"model"`, `"dataset"` or `"space"`.
        private: Make it private; of a repository that is there already it must be true.
        token: In place of the one that you are logged in with.

    Raises:
        HubError: You are not logged in, may not write there, or want privacy of a public repository.
    """

    def __init__(
        self, repo_id: str, *, repo_type: str = "model", private: bool | None = None, token: str | None = None
    ):
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import RepositoryNotFoundError

        self.api: HfApi = HfApi(token=token)
        self.repo_type = repo_type
        self.private = private
        if token is None and get_token() is None:
            raise HubError(f"to push to {repo_id} you must be logged in: `hf auth login`, or set HF_TOKEN")
        with clear_hub_errors(repo_id):
            who = self.api.whoami()
            self.repo_id = repo_id if "/" in repo_id else f"{who['name']}/{repo_id}"
            owners = [who["name"], *(group["name"] for group in who.get("orgs", []))]
            if self.repo_id.split("/")[0] not in owners:
                raise HubError(f"you cannot push to {self.repo_id}: as {who['name']} you own {', '.join(owners)}")
            try:
                info = self.api.repo_info(self.repo_id, repo_type=repo_type)
            except RepositoryNotFoundError:
                info = None
        if info is not None and private and not info.private:
            raise HubError(f"{self.repo_id} is public already; make it private in its settings, or name another one")
        self.exists = info is not None
        self.files = [file.rfilename for file in getattr(info, "siblings", None) or []]

    @property
    def state(self) -> str:
        """What the repository is after an upload that did not finish."""
        return "as it was" if self.exists else "new and empty"

    def read(self, name: str) -> str | None:
        """A text file of the repository, if it has it."""
        if name not in self.files:
            return None
        with clear_hub_errors(self.repo_id):
            path = self.api.hf_hub_download(self.repo_id, name, repo_type=self.repo_type)
        return Path(path).read_text(encoding="utf-8")

    def create(self, space_sdk: str | None = None) -> str:
        """Make the repository unless it is there.

        Returns:
            Its URL.
        """
        with clear_hub_errors(self.repo_id):
            url = self.api.create_repo(
                self.repo_id, repo_type=self.repo_type, private=self.private, exist_ok=True, space_sdk=space_sdk
            )
        return str(url)

    def commit(
        self,
        files: Mapping[str, Path | bytes],
        message: str,
        *,
        replaces: Sequence[str] = (),
        space_sdk: str | None = None,
    ) -> str:
        """Upload files in one commit.

        Args:
            files: Their content by their path in the repository.
            message: Of the commit.
            replaces: Patterns of files that leave the repository unless they are among the new ones.
            space_sdk: Of a new space.

        Returns:
            URL of the repository.

        Raises:
            HubError: The upload was refused or did not finish: nothing in the repository has changed.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
        from huggingface_hub.errors import HfHubHTTPError

        url = self.create(space_sdk)
        gone = [name for name in self.files if name not in files and any(fnmatch(name, each) for each in replaces)]
        operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
            *(CommitOperationAdd(name, content) for name, content in files.items()),
            *(CommitOperationDelete(name) for name in gone),
        ]
        with clear_hub_errors(self.repo_id):
            try:
                self.api.create_commit(self.repo_id, operations, commit_message=message, repo_type=self.repo_type)
            except Exception as error:
                # That of a large file comes wrapped.
                cause = error if isinstance(error, HfHubHTTPError) else error.__cause__ or error
                if isinstance(cause, HfHubHTTPError) and cause.response.status_code in (401, 403, 404):
                    raise cause from None
                raise HubError(
                    f"the upload to {self.repo_id} did not finish ({first_line(cause)}). The repository is "
                    f"{self.state}, your files are as they were; push again"
                ) from error
        return url
