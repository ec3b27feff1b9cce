"""A hub on this machine: as much of its API as publishing and reading a model needs, with what was published."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "a1B2" * 8
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """What lies on the hub, and who may write there."""

    def __init__(self, user="ada", large=".safetensors"):
        self.user, self.large = user, large
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.broken = 0
        """Answer every commit with this status."""
        self.url = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def answer(self, status, value=None, error="", **headers):
        body = value if isinstance(value, bytes) else json.dumps({} if value is None else value).encode()
        self.send_response(status)
        if error:
            self.send_header("X-Error-Code", error)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self):
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.asked.append(f"{self.command} {path}")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token != TOKEN:
            return self.answer(401, {"error": "Invalid credentials in Authorization header"})
        if path.startswith("/objects/"):
            hub.objects[path.removeprefix("/objects/")] = body
            return self.answer(200)
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if self.command in ("GET", "HEAD") and path.startswith("/api/models/"):
            name, _, tree = path.removeprefix("/api/models/").partition("/revision/")[0].partition("/tree/")
            return self.info(name, bool(tree))
        if "/resolve/" in path:
            return self.file(*path.removeprefix("/").split("/resolve/"))
        if not token:
            return self.answer(401, {"error": "Unauthorized"})
        if path == "/api/whoami-v2":
            return self.answer(200, {"name": hub.user, "type": "user", "orgs": []})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path.endswith("/info/lfs/objects/batch"):
            return self.batch(json.loads(body))
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = {f["path"]: "lfs" if f["path"].endswith(hub.large) else "regular" for f in files}
            found = [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes.items()]
            return self.answer(200, {"files": found})
        if "/commit/" in path:
            return self.commit(path.removeprefix("/api/models/").partition("/commit/")[0], body)
        return self.answer(404, {"error": f"no such place: {path}"})

    do_GET = do_POST = do_PUT = do_HEAD = handle_any  # noqa: N815

    def info(self, name, tree):
        files = self.hub.repositories.get(name)
        if files is None:
            return self.answer(404, {"error": "Repository not found"}, error="RepoNotFound")
        if tree:
            sizes = [{"type": "file", "path": k, "size": len(v), "oid": COMMIT} for k, v in files.items()]
            return self.answer(200, sizes)
        listed = [{"rfilename": file} for file in files]
        private = name in self.hub.private
        return self.answer(200, {"id": name, "modelId": name, "sha": COMMIT, "private": private, "siblings": listed})

    def create(self, asked):
        owner = asked.get("organization") or self.hub.user
        name = f"{owner}/{asked['name']}"
        if owner != self.hub.user:
            return self.answer(403, {"error": f"You don't have the rights to create a model under {owner}"})
        if name in self.hub.repositories:
            return self.answer(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
        self.hub.repositories[name] = {".gitattributes": b""}
        if asked.get("private") or asked.get("visibility") == "private":
            self.hub.private.add(name)
        return self.answer(200, {"url": f"{self.hub.url}/{name}", "name": name})

    def batch(self, asked):
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.hub.url}/objects/{each['oid']}"}}}
            for each in asked["objects"]
        ]
        return self.answer(200, {"transfer": "basic", "objects": objects})

    def commit(self, name, body):
        if self.hub.broken:
            return self.answer(self.hub.broken, {"error": "not now"})
        files = self.hub.repositories[name]
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        url = f"{self.hub.url}/{name}/commit/{COMMIT}"
        return self.answer(200, {"commitUrl": url, "commitOid": COMMIT, "success": True})

    def file(self, name, rest):
        content = self.hub.repositories.get(name, {}).get(rest.partition("/")[2])
        if content is None:
            return self.answer(404, {"error": "Entry not found"}, error="EntryNotFound")
        tag = hashlib.sha256(content).hexdigest()
        return self.answer(200, content, ETag=f'"{tag}"', X_Repo_Commit=COMMIT)


@contextmanager
def serving(**of_hub):
    """A hub that listens on a port of its own, for as long as the block lasts."""
    hub = Hub(**of_hub)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
