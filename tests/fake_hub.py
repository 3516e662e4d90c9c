"""A hub on this machine that speaks the HTTP interface of the Hugging Face hub: repositories, commits, large files."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

REPO = r"/api/(?P<kind>datasets|models)/(?P<repo>[^/]+/[^/]+)"


class FakeHub:
    """Repositories in memory; `damage` changes what is sent of a file from now on."""

    def __init__(self):
        self.repos = {}  # (type, repo) -> {"commits": {id: {name: (content, is large)}}, "refs": {name: id}}
        self.large = {}  # sha256 -> content
        self.damaged = set()  # names of files
        self.asked = []  # (method, path)
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def tag(self, repo, name, commit, kind="datasets"):
        self.repos[kind, repo]["refs"][name] = commit

    def files(self, repo, kind="datasets"):
        """Content of every file at `main`, by name."""
        found = self.repos[kind, repo]
        return {name: content for name, (content, _) in found["commits"][found["refs"]["main"]].items()}

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _answer(self, code=200, body=b"", **headers):
        if not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _fault(self, code, name, text):
        self._answer(code, {"error": text}, **{"X-Error-Code": name, "X-Error-Message": text})

    def _read(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _handle(self):
        parts = urlsplit(self.path)
        self.hub.asked.append((self.command, parts.path))
        self.query, body = parse_qs(parts.query), self._read()
        for method, pattern, name in ROUTES:
            found = re.fullmatch(pattern, unquote(parts.path))
            if found and self.command in method:
                return getattr(self, name)(body, **found.groupdict())
        return self._fault(404, "EntryNotFound", f"no route {self.command} {parts.path}")

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def root(self, body):
        self._answer(200)

    def create(self, body):
        wanted = json.loads(body)
        key = (f"{wanted.get('type', 'model')}s", f"{wanted['organization']}/{wanted['name']}")
        there = key in self.hub.repos
        self.hub.repos.setdefault(key, {"commits": {"0" * 40: {}}, "refs": {"main": "0" * 40}})
        prefix = "datasets/" if key[0] == "datasets" else ""
        self._answer(409 if there else 200, {"url": f"{self.hub.url}/{prefix}{key[1]}"})

    def validate(self, body):
        ok = json.loads(body)["content"].startswith("---\n")
        self._answer(200 if ok else 400, {"errors": [] if ok else [{"message": "no metadata"}], "warnings": []})

    def preupload(self, body, kind, repo, revision):
        files = json.loads(body)["files"]
        modes = [
            {
                "path": f["path"],
                "shouldIgnore": False,
                "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
            }
            for f in files
        ]
        self._answer(200, {"files": modes})

    def batch(self, body, repo, prefix=None):
        wanted = json.loads(body)
        objects = [
            {
                "oid": one["oid"],
                "size": one["size"],
                "actions": {"upload": {"href": f"{self.hub.url}/put/{one['oid']}"}},
            }
            for one in wanted["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": objects}, **{"Content-Type": "application/vnd.git-lfs+json"})

    def put(self, body, oid):
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.large[oid] = body
        self._answer(200)

    def commit(self, body, kind, repo, revision):
        found = self.hub.repos[kind, repo]
        files = dict(found["commits"][found["refs"]["main"]])
        for line in body.splitlines():
            one = json.loads(line)
            value = one["value"]
            if one["key"] == "file":
                files[value["path"]] = (base64.b64decode(value["content"]), False)
            elif one["key"] == "lfsFile":
                files[value["path"]] = (self.hub.large[value["oid"]], True)
        oid = hashlib.sha1(repr((repo, len(found["commits"]), sorted(files))).encode()).hexdigest()
        found["commits"][oid], found["refs"]["main"] = files, oid
        prefix = "datasets/" if kind == "datasets" else ""
        self._answer(
            200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{prefix}{repo}/commit/{oid}"}
        )

    def list(self, body, kind):
        tag, author = self.query.get("filter", [None])[0], self.query.get("author", [None])[0]
        found = []
        for (held, repo), content in self.hub.repos.items():
            card = content["commits"][content["refs"]["main"]].get("README.md", (b"", False))[0].decode()
            if held == kind and (not tag or f"- {tag}\n" in card) and (not author or repo.startswith(f"{author}/")):
                tags = re.findall(r"^- (\S+)$", card.split("---")[1], re.MULTILINE) if card.startswith("---") else []
                found.append({"_id": repo, "id": repo, "private": False, "tags": tags, "downloads": 0, "likes": 0})
        self._answer(200, found)

    def resolve(self, body, repo, revision, name, prefix=None):
        found = self.hub.repos.get(("datasets" if prefix else "models", repo))
        if found is None:
            return self._fault(404, "RepoNotFound", "Repository not found")
        commit = found["refs"].get(revision, revision)
        if commit not in found["commits"]:
            return self._fault(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if name not in found["commits"][commit]:
            return self._fault(404, "EntryNotFound", "Entry not found")
        content, large = found["commits"][commit][name]
        etag = (hashlib.sha256 if large else hashlib.sha1)(content).hexdigest()
        if name in self.hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        return self._answer(200, content, **{"X-Repo-Commit": commit, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"})


ROUTES = (
    ("HEAD GET", "/?", "root"),
    ("POST", "/api/repos/create", "create"),
    ("POST", "/api/validate-yaml", "validate"),
    ("POST", REPO + "/preupload/(?P<revision>.+)", "preupload"),
    ("POST", REPO + "/commit/(?P<revision>.+)", "commit"),
    ("POST", r"/(?P<prefix>datasets/)?(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
    ("PUT", "/put/(?P<oid>[0-9a-f]+)", "put"),
    ("GET", "/api/(?P<kind>datasets|models)", "list"),
    ("HEAD GET", r"/(?P<prefix>datasets/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)", "resolve"),
)
