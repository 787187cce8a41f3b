"""A Hub in memory, served on this machine, with the part of the Hub's protocol that the tests need.

Repositories are lists of commits, and each commit is a complete tree of files. Weights are uploaded as large files
(announce, upload, commit), and all other files are part of the commit. An unknown token counts as no token, and only
its owner can see a private repository.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

__all__ = ["LocalHub", "Repository"]

LARGE_FILES = (".safetensors", ".parquet", ".arrow", ".faiss")
TYPES = ("models", "datasets", "spaces")
LICENSES = ("apache-2.0", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-sa-4.0", "mit", "other")
_REPOSITORY = r"/api/(models|datasets|spaces)/([^/]+/[^/]+)"
_PREFIX = r"/(?:(datasets|spaces)/)?"


@dataclass
class Repository:
    """A repository: its commits, of which the last one is `main`, its other branches, and the commit messages.

    A pull request is a branch `refs/pr/N`.
    """

    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    descriptions: list[str] = field(default_factory=list)
    branches: dict[str, tuple[str, dict[str, bytes]]] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1][1]

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        seed = len(self.commits), sorted(files), branch if branch != "main" else None
        digest = hashlib.sha1(repr(seed).encode()).hexdigest()
        if branch == "main":
            self.commits.append((digest, files))
        else:
            self.branches[branch] = digest, files
        return digest

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision in ("main", "HEAD"):
            return self.commits[-1]
        if revision in self.branches:
            return self.branches[revision]
        known = (*self.commits, *self.branches.values())
        return next((commit for commit in known if commit[0] == revision), None)


@dataclass
class Request:
    verb: str
    path: str
    query: dict[str, list[str]]
    body: bytes
    token: str
    user: str | None
    bounds: str | None

    @property
    def values(self) -> Any:
        return json.loads(self.body or b"{}")


class Refusal(Exception):
    """An error response: status, the error code that huggingface_hub reads, message, and more values."""

    def __init__(self, status: int, code: str | None, words: str, **values: Any):
        self.status, self.code, self.words, self.values = status, code, words, values


Answer = tuple[bytes, dict[str, str]]


class LocalHub:
    """The server.

    Attributes:
        url: Its address.
        repositories: Repositories by (type, id).
        tokens: Users by token. Tokens that start with `hf_read` may not write, and `hf_reader` reports that role.
    """

    def __init__(self) -> None:
        self.tokens = {"hf_me": "me", "hf_read_me": "me", "hf_reader": "me", "hf_you": "you"}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self._stall_at: str | None = None
        self._stalled = threading.Event()
        self.unknown: list[str] = []
        self._large: dict[str, bytes] = {}
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: str, token: str | None = "hf_me") -> dict[str, str]:
        """Return environment variables that make huggingface_hub in a new process use this Hub."""
        values = {"HF_ENDPOINT": self.url, "HF_HOME": home, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        values |= {
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        return values | ({"HF_TOKEN": token} if token else {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"})

    def __getitem__(self, name: str) -> Repository:
        """Return a repository by its id, which starts with `datasets/` or `spaces/` if it is one of these."""
        kind, _, rest = name.partition("/")
        return self.repositories[(kind, rest) if kind in TYPES else ("models", name)]

    @contextmanager
    def stalling(self, path: str) -> Iterator[threading.Event]:
        """Do not answer requests whose path matches; the event is set when such a request arrives."""
        self._stalled.clear()
        self._stall_at = path
        try:
            yield self._stalled
        finally:
            self._stall_at = None

    # ---- requests -----------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        for verb, pattern, method in _ROUTES:
            if (found := re.fullmatch(pattern, request.path)) and verb == request.verb:
                return method(self, request, *found.groups())
        self.unknown.append(f"{request.verb} {request.path}")
        raise Refusal(404, None, f"this hub does not know {request.verb} {request.path}")

    def _repository(self, request: Request, kind: str, name: str) -> Repository:
        repository = self.repositories.get((kind, name))
        if repository is None or (repository.private and request.user != name.split("/")[0]):
            # Without a token, the real Hub does not say whether a repository exists.
            raise Refusal(404 if request.user else 401, "RepoNotFound", "Repository not found")
        return repository

    def _writable(self, request: Request, kind: str, name: str) -> Repository:
        repository = self._repository(request, kind, name)
        self._check_owner(request, name)
        return repository

    def _check_owner(self, request: Request, name: str) -> None:
        if request.user is None:
            raise Refusal(401, None, "Invalid username or password.")
        if request.user != name.split("/")[0] or request.token.startswith("hf_read"):
            raise Refusal(403, None, f"Forbidden: you don't have the rights to write to {name}")

    def _commit(self, repository: Repository, revision: str | None) -> tuple[str, dict[str, bytes]]:
        commit = repository.at(revision or "main")
        if commit is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def who(self, request: Request) -> Answer:
        if request.user is None:
            raise Refusal(401, None, "Invalid username or password.")
        token = {"role": "read" if request.token == "hf_reader" else "fineGrained"}
        auth = {"type": "access_token", "accessToken": token}
        return _json({"name": request.user, "type": "user", "orgs": [], "auth": auth})

    def create(self, request: Request) -> Answer:
        values = request.values
        kind = values.get("type", "model") + "s"
        name = f"{values.get('organization') or request.user}/{values['name']}"
        self._check_owner(request, name)
        url = f"{self.url}/{name}" if kind == "models" else f"{self.url}/{kind}/{name}"
        if (kind, name) in self.repositories:
            raise Refusal(409, None, "You already created this repo", url=url)
        private = bool(values.get("private")) or values.get("visibility") == "private"
        self.repositories[kind, name] = Repository(private)
        self.repositories[kind, name].commit({})
        return _json({"url": url, "name": name, "id": name})

    def announce(self, request: Request, kind: str, name: str, revision: str) -> Answer:
        self._writable(request, kind, name)
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE_FILES) else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in request.values["files"]
        ]
        return _json({"files": files})

    def announce_large(self, request: Request, kind: str | None, name: str) -> Answer:
        self._writable(request, kind or "models", name)
        objects = request.values["objects"]
        for item in objects:
            if item["oid"] not in self._large:
                item["actions"] = {"upload": {"href": f"{self.url}/large/{item['oid']}"}}
        return _json({"transfer": "basic", "objects": objects})

    def upload_large(self, request: Request, digest: str) -> Answer:
        if hashlib.sha256(request.body).hexdigest() != digest:
            raise Refusal(400, None, "the content does not have this digest")
        self._large[digest] = request.body
        return b"", {}

    def commit(self, request: Request, kind: str, name: str, revision: str) -> Answer:
        repository = self._writable(request, kind, name)
        head, files = self._commit(repository, revision)
        files = dict(files)
        for line in map(json.loads, request.body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                if value.get("parentCommit") not in (None, head):
                    raise Refusal(412, None, "A commit has happened since. Please refresh and try again.")
                repository.messages.append(value["summary"])
                repository.descriptions.append(value["description"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self._large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        answer = {}
        if request.query.get("create_pr") == ["1"]:
            number = 1 + sum(each.startswith("refs/pr/") for each in repository.branches)
            revision = f"refs/pr/{number}"
            answer = {"pullRequestUrl": f"{self.url}/{name}/discussions/{number}"}
        digest = repository.commit(files, revision)
        url = f"{self.url}/{name}/commit/{digest}"
        return _json({"success": True, "commitOid": digest, "commitUrl": url, "hookOutput": ""} | answer)

    def branch(self, request: Request, kind: str, name: str, branch: str) -> Answer:
        repository = self._writable(request, kind, name)
        if branch in repository.branches:
            raise Refusal(409, None, "Reference already exists")
        repository.branches[branch] = repository.commits[-1]
        return _json({})

    def info(self, request: Request, kind: str, name: str, revision: str | None) -> Answer:
        repository = self._repository(request, kind, name)
        digest, files = self._commit(repository, revision)
        siblings = [{"rfilename": path, "size": len(content)} for path, content in files.items()]
        return _json(
            {"id": name, "sha": digest, "private": repository.private, "tags": [], "siblings": siblings}
            | {"downloads": 0, "likes": 0}
        )

    def tree(self, request: Request, kind: str, name: str, revision: str, folder: str | None) -> Answer:
        _, files = self._commit(self._repository(request, kind, name), revision)
        prefix = f"{folder}/" if folder else ""
        inside = [path for path in files if path.startswith(prefix)]
        if folder and not inside:
            raise Refusal(404, "EntryNotFound", f"{folder} does not exist on {revision}")
        recursive = request.query.get("recursive", ["false"])[0].lower() == "true"
        folders = {prefix + path[len(prefix) :].split("/")[0] for path in inside if "/" in path[len(prefix) :]}
        if recursive:
            folders = {path.rsplit("/", 1)[0] for path in inside if "/" in path[len(prefix) :]}
        shown = inside if recursive else [path for path in inside if "/" not in path[len(prefix) :]]
        entries = [{"type": "directory", "path": path, "oid": _oid(path.encode()), "size": 0} for path in folders]
        return _json(entries + [_entry(path, files[path]) for path in shown])

    def paths_info(self, request: Request, kind: str, name: str, revision: str) -> Answer:
        _, files = self._commit(self._repository(request, kind, name), revision)
        asked = request.values if request.body[:1] == b"{" else {"paths": parse_qs(request.body.decode())["paths"]}
        entries = []
        for path in asked["paths"]:
            if path in files:
                entries.append(_entry(path, files[path]))
            elif any(other.startswith(f"{path}/") for other in files):
                entries.append({"type": "directory", "path": path, "oid": _oid(path.encode()), "size": 0})
        return _json(entries)

    def refs(self, request: Request, kind: str, name: str) -> Answer:
        digest, _ = self._repository(request, kind, name).commits[-1]
        branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": digest}
        return _json({"branches": [branch], "tags": [], "converts": []})

    def download(self, request: Request, kind: str | None, name: str, revision: str, path: str) -> Answer:
        digest, files = self._commit(self._repository(request, kind or "models", name), revision)
        if path not in files:
            raise Refusal(404, "EntryNotFound", f"{path} does not exist on {revision}")
        content = files[path]
        etag = hashlib.sha256(content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": digest, "Accept-Ranges": "bytes"}
        headers["Content-Type"] = "application/octet-stream"
        if request.bounds and (found := re.fullmatch(r"bytes=(\d+)-(\d*)", request.bounds)):
            start, end = int(found[1]), min(int(found[2] or len(content)), len(content) - 1)
            return content[start : end + 1], headers | {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
        return content, headers

    def validate(self, request: Request) -> Answer:
        header = re.match(r"---\n(.*?)^---$", request.values["content"], re.DOTALL | re.MULTILINE)
        license = (yaml.safe_load(header[1]) or {}).get("license", "other") if header else "other"
        if license not in LICENSES:
            said = f'"license" must be one of [{", ".join(LICENSES)}]'
            raise Refusal(400, None, "Invalid metadata", errors=[{"message": said}], warnings=[])
        return _json({"errors": [], "warnings": []})

    # ---- responses ----------------------------------------------------------------------------------------

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: Any) -> None:
                pass

            def handle_request(self) -> None:
                parts = urlsplit(self.path)
                token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
                request = Request(
                    verb={"HEAD": "GET"}.get(self.command, self.command),
                    path=unquote(parts.path),
                    query=parse_qs(parts.query),
                    body=self._body(),
                    token=token,
                    user=hub.tokens.get(token),
                    bounds=self.headers.get("Range"),
                )
                if hub._stall_at and re.search(hub._stall_at, request.path):
                    hub._stalled.set()
                    hub._released.wait()
                    return
                try:
                    content, headers = hub.answer(request)
                    status = 206 if "Content-Range" in headers else 200
                except Refusal as refusal:
                    content, headers = _json({"error": refusal.words, **refusal.values})
                    headers["X-Error-Message"] = refusal.words
                    headers |= {"X-Error-Code": refusal.code} if refusal.code else {}
                    status = refusal.status
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def _body(self) -> bytes:
                if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                chunks = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(chunks)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

        return Handler


def _json(values: Any) -> Answer:
    return json.dumps(values).encode(), {"Content-Type": "application/json"}


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": _oid(content)}
    if path.endswith(LARGE_FILES):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry


_ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("GET", "/api/whoami-v2", LocalHub.who),
    ("POST", "/api/repos/create", LocalHub.create),
    ("POST", "/api/validate-yaml", LocalHub.validate),
    ("POST", f"{_REPOSITORY}/preupload/(.+)", LocalHub.announce),
    ("POST", f"{_PREFIX}([^/]+/[^/]+)\\.git/info/lfs/objects/batch", LocalHub.announce_large),
    ("PUT", "/large/([0-9a-f]{64})", LocalHub.upload_large),
    ("POST", f"{_REPOSITORY}/commit/(.+)", LocalHub.commit),
    ("POST", f"{_REPOSITORY}/branch/(.+)", LocalHub.branch),
    ("GET", f"{_REPOSITORY}(?:/revision/(.+))?", LocalHub.info),
    ("GET", f"{_REPOSITORY}/tree/([^/]+)(?:/(.+))?", LocalHub.tree),
    ("POST", f"{_REPOSITORY}/paths-info/(.+)", LocalHub.paths_info),
    ("GET", f"{_REPOSITORY}/refs", LocalHub.refs),
    ("GET", f"{_PREFIX}([^/]+/[^/]+)/resolve/([^/]+)/(.+)", LocalHub.download),
]
