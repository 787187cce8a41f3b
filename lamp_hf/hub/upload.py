"""Puts files onto the Hub, all of them in one commit or none."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from lamp_hf.hub.errors import HubError, clear_hub_errors, first_line

__all__ = ["CARD", "Target", "matches"]

CARD = "README.md"


class Target:
    """A repository that is, or will be, written to.

    Args:
        repo_id: `owner/name`, or a name of your own.
        repo_type: `"model"`, `"dataset"` or `"space"`.
        private: Make it private; of a repository that is there already it must be true.
        revision: Branch to write to, made from the main one where it does not exist; `None`: the main one.
        create_pr: Write a pull request in place of the branch itself.
        token: In place of the one that you are logged in with.

    Raises:
        HubError: You are not logged in, may not write there, or want privacy of a public repository.
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
            raise HubError(f"to push to {repo_id} you must be logged in: `hf auth login`, or set HF_TOKEN")
        with clear_hub_errors(repo_id):
            who = self.api.whoami()
            self.repo_id = repo_id if "/" in repo_id else f"{who['name']}/{repo_id}"
            owners = [who["name"], *(group["name"] for group in who.get("orgs", []))]
            if self.repo_id.split("/")[0] not in owners:
                raise HubError(f"you cannot push to {self.repo_id}: as {who['name']} you own {', '.join(owners)}")
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
            raise HubError(f"{self.repo_id} is public already; make it private in its settings, or name another one")
        # What the repository is after an upload that did not finish.
        self.state = "new and empty" if info is None else "as it was"
        self._look(info)

    def _look(self, info: Any) -> None:
        self.revision: str | None = getattr(info, "sha", None)
        self.files = [file.rfilename for file in getattr(info, "siblings", None) or []]

    def refresh(self, state: str) -> None:
        """Look at the repository anew, after something else has written to it.

        Args:
            state: What it is from now on, should an upload not finish.
        """
        with clear_hub_errors(self.repo_id):
            self._look(self.api.repo_info(self.repo_id, repo_type=self.repo_type, revision=self.branch))
        self.state = state

    def read(self, name: str) -> str | None:
        """A text file of the repository, if it has it."""
        if name not in self.files:
            return None
        with clear_hub_errors(self.repo_id):
            path = self.api.hf_hub_download(self.repo_id, name, repo_type=self.repo_type, revision=self.revision)
        return Path(path).read_text(encoding="utf-8")

    def holds(self, files: Mapping[str, Path], patterns: Sequence[str]) -> bool:
        """Whether its files that are like the patterns are these, by their digests.

        Args:
            files: Their content by their path in the repository, large ones.
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
        """Have the Hub read a card before anything is made or sent.

        Raises:
            HubError: It does not take it, and says why.
        """
        from huggingface_hub import get_session
        from huggingface_hub.utils import hf_raise_for_status

        asked = {"content": card, "repoType": self.repo_type}
        with clear_hub_errors(self.repo_id):
            response = get_session().post(f"{self.api.endpoint}/api/validate-yaml", json=asked)
            if response.status_code == 400:
                reasons = [str(error.get("message")) for error in response.json().get("errors", [])]
                raise HubError(
                    f"the Hub does not take the header of {self.repo_id}'s {CARD}: {'; '.join(reasons)}. Nothing was "
                    "uploaded"
                )
            hf_raise_for_status(response)

    def create(self, space_sdk: str | None = None) -> str:
        """Make the repository unless it is there.

        Returns:
            Its URL.
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
            files: Their content by their path in the repository.
            message, description: Of the commit.
            replaces: Patterns of files that leave the repository unless they are among the new ones.
            space_sdk: Of a new space.

        Returns:
            URL of the repository, or of the pull request.

        Raises:
            HubError: The upload was refused or did not finish, or somebody else has written to the repository since
                it was looked at: nothing in it has changed.
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
                # That of a large file comes wrapped.
                cause = error if isinstance(error, HfHubHTTPError) else error.__cause__ or error
                if isinstance(cause, HfHubHTTPError) and cause.response.status_code in (401, 403, 404):
                    raise cause from None
                if isinstance(cause, HfHubHTTPError) and cause.response.status_code == 412:
                    raise HubError(
                        f"{self.repo_id} was changed meanwhile, by somebody or something else. Nothing was uploaded, "
                        "so that this change is not lost; push again"
                    ) from error
                raise HubError(
                    f"the upload to {self.repo_id} did not finish ({first_line(cause)}). The repository is "
                    f"{self.state}, your files are as they were; push again"
                ) from error
        return str(done.pr_url) if self.create_pr else url


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether the path of a file in a repository is like one of the patterns, and in a folder as deep."""
    return any(fnmatch(name, each) and name.count("/") == each.count("/") for each in patterns)
