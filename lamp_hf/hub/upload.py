"""Upload files to the Hub in one commit: all of them or none."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from lamp_hf.files import file_digest
from lamp_hf.hub.errors import HubError, clear_hub_errors, first_line

__all__ = ["CARD", "Target", "matches"]

CARD = "README.md"


class Target:
    """A repository to upload to, which may not exist yet.

    Args:
        repo_id: `owner/name`, or `name` for a repository of your own.
        repo_type: `"model"`, `"dataset"` or `"space"`.
        private: Make a new repository private. An existing one must be private already.
        revision: Branch to write to, created from the main branch if it does not exist. Defaults to the main branch.
        create_pr: Open a pull request in place of writing to the branch.
        token: Token to use in place of the one that you are logged in with.

    Attributes:
        repo_id: `owner/name`.
        files: Names of the files in the repository.
        revision: Commit that an upload builds on, `None` for a new repository.
        state: State of the repository if an upload fails, for errors.

    Raises:
        HubError: You are not logged in, may not write there, or the repository is public and `private` is set.
    """

    def __init__(
        self,
        repo_id: str,
        *,
        repo_type: str = "model",
        private: bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        token: str | None = None,
    ):
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        self.api: HfApi = HfApi(token=token)
        self.repo_type = repo_type
        self.private = private
        self.branch = revision
        self.create_pr = create_pr
        if token is None and get_token() is None:
            raise HubError(f"you must be logged in to push to {repo_id}: run `hf auth login` or set HF_TOKEN")
        with clear_hub_errors(repo_id):
            who = self.api.whoami()
            self.repo_id = repo_id if "/" in repo_id else f"{who['name']}/{repo_id}"
            owners = [who["name"], *(group["name"] for group in who.get("orgs", []))]
            if self.repo_id.split("/")[0] not in owners:
                raise HubError(
                    f"you cannot push to {self.repo_id}: as {who['name']} you can push to {', '.join(owners)}"
                )
            if who.get("auth", {}).get("accessToken", {}).get("role") == "read":
                raise HubError(
                    f"you cannot push to {self.repo_id}: your token can only read; use one with write access"
                )
            try:
                info = self.api.repo_info(self.repo_id, repo_type=repo_type, revision=revision)
            except RevisionNotFoundError:
                info = self.api.repo_info(self.repo_id, repo_type=repo_type)
            except RepositoryNotFoundError:
                info = None
        if info is not None and private and not info.private:
            raise HubError(f"{self.repo_id} is public already; make it private in its settings, or use another name")
        self.state = "new and empty" if info is None else "unchanged"
        self._look(info)

    def _look(self, info: Any) -> None:
        self.revision: str | None = getattr(info, "sha", None)
        self.files = [file.rfilename for file in getattr(info, "siblings", None) or []]

    def refresh(self, state: str) -> None:
        """Read the state of the repository again, after something else has written to it.

        Args:
            state: State of the repository if a later upload fails, for errors.
        """
        with clear_hub_errors(self.repo_id):
            self._look(self.api.repo_info(self.repo_id, repo_type=self.repo_type, revision=self.branch))
        self.state = state

    def read(self, name: str) -> str | None:
        """Return a text file of the repository, or `None` if there is no such file."""
        if name not in self.files:
            return None
        with clear_hub_errors(self.repo_id):
            path = self.api.hf_hub_download(self.repo_id, name, repo_type=self.repo_type, revision=self.revision)
        return Path(path).read_text(encoding="utf-8")

    def holds(self, files: Mapping[str, Path], patterns: Sequence[str]) -> bool:
        """Return whether the repository's files that match the patterns are these, by their SHA-256.

        Args:
            files: Local paths of files that the Hub stores as large files, by their path in the repository.
            patterns: See [`matches`].
        """
        from huggingface_hub import RepoFile

        if not files or {name for name in self.files if matches(name, patterns)} != files.keys():
            return False
        with clear_hub_errors(self.repo_id):
            infos = self.api.get_paths_info(self.repo_id, list(files), repo_type=self.repo_type, revision=self.revision)
        theirs = {info.path: info.lfs.sha256 for info in infos if isinstance(info, RepoFile) and info.lfs}
        return all(theirs.get(name) == file_digest(path) for name, path in files.items())

    def check_card(self, card: str) -> None:
        """Have the Hub validate a card, before anything is created or uploaded.

        Raises:
            HubError: The Hub rejects the header.
        """
        from huggingface_hub import get_session
        from huggingface_hub.utils import hf_raise_for_status

        asked = {"content": card, "repoType": self.repo_type}
        with clear_hub_errors(self.repo_id):
            response = get_session().post(f"{self.api.endpoint}/api/validate-yaml", json=asked)
            if response.status_code == 400:
                reasons = [str(error.get("message")) for error in response.json().get("errors", [])]
                raise HubError(
                    f"{self.repo_id}: the Hub rejects the header of its {CARD}: {'; '.join(reasons)}. Nothing was "
                    "uploaded"
                )
            hf_raise_for_status(response)

    def create(self, space_sdk: str | None = None) -> str:
        """Create the repository and the branch unless they exist.

        Args:
            space_sdk: SDK of a new space.

        Returns:
            URL of the repository.
        """
        with clear_hub_errors(self.repo_id):
            url = self.api.create_repo(
                self.repo_id, repo_type=self.repo_type, private=self.private, exist_ok=True, space_sdk=space_sdk
            )
            if self.branch is not None:
                self.api.create_branch(self.repo_id, branch=self.branch, repo_type=self.repo_type, exist_ok=True)
        return str(url)

    def commit(
        self,
        files: Mapping[str, Path | bytes],
        message: str,
        *,
        description: str | None = None,
        replaces: Sequence[str] = (),
        space_sdk: str | None = None,
    ) -> str:
        """Upload files in one commit.

        Args:
            files: Local paths or contents, by their path in the repository.
            message: Title of the commit.
            description: Description of the commit.
            replaces: Patterns of files to delete from the repository unless they are among the new ones.
            space_sdk: SDK of a new space.

        Returns:
            URL of the repository, or of the pull request.

        Raises:
            HubError: The upload was refused or did not finish, or someone else has written to the repository meanwhile.
                The repository has not changed.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
        from huggingface_hub.errors import HfHubHTTPError

        card = files.get(CARD)
        if card is not None:
            self.check_card((card if isinstance(card, bytes) else card.read_bytes()).decode())
        url = self.create(space_sdk)
        gone = [name for name in self.files if name not in files and matches(name, replaces)]
        operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
            *(CommitOperationAdd(name, content) for name, content in files.items()),
            *(CommitOperationDelete(name) for name in gone),
        ]
        with clear_hub_errors(self.repo_id):
            try:
                done = self.api.create_commit(
                    self.repo_id,
                    operations,
                    commit_message=message,
                    commit_description=description,
                    repo_type=self.repo_type,
                    revision=self.branch,
                    create_pr=self.create_pr,
                    parent_commit=self.revision,
                )
            except Exception as error:
                # The error of a large file's upload is wrapped in another one.
                cause = error if isinstance(error, HfHubHTTPError) else error.__cause__ or error
                if isinstance(cause, HfHubHTTPError) and cause.response.status_code in (401, 403, 404):
                    raise cause from None
                if isinstance(cause, HfHubHTTPError) and cause.response.status_code == 412:
                    raise HubError(
                        f"{self.repo_id} has a newer commit, so nothing was uploaded; push again to build on it"
                    ) from error
                raise HubError(
                    f"the upload to {self.repo_id} did not finish ({first_line(cause)}). The repository is "
                    f"{self.state}, and your files have not changed; push again"
                ) from error
        return str(done.pr_url) if self.create_pr else url


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a file's path in a repository matches one of the patterns, at the same folder depth."""
    return any(fnmatch(name, each) and name.count("/") == each.count("/") for each in patterns)
