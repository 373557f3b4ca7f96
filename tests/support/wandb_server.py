"""A server on loopback that implements the part of the Weights & Biases API that MiloZero uses.

The client in the tests is the real one; its requests were recorded with wandb 0.31. A fault can be switched on at
any moment: the server is silent or slow, answers with errors or garbage, or closes its connections.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlparse

KEY = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Run:
    """The state of one run on the server."""

    name: str
    display_name: str
    group: str = ""
    config: dict = field(default_factory=dict)
    history: list = field(default_factory=list)  # rows in the order of their arrival
    summary: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)  # name → bytes
    state: str = "running"

    def rows(self, metric):
        """Return the values of a metric, in the order of the steps."""
        return [row[metric] for row in self.history if metric in row]


class WandbServer:
    """`with WandbServer() as server` serves requests at `server.url` until the block ends.

    `fault` is a name in `FAULTS`, or empty.
    """

    def __init__(self):
        self.runs = {}  # (entity, project, id) → Run
        self.requests = []  # names of GraphQL operations, and paths of other requests
        self.fault = ""
        self.slow = 0.0  # seconds before each answer
        self.on_download = lambda name, content: content  # returns the bytes that a download receives
        self.storage = self.url = ""  # base URL of files, by default that of this server; URL of this server
        self.endless = False  # whether each page of a list names a next one
        self.keys = []  # Authorization headers of the downloads
        self._released = threading.Event()

    def __enter__(self):
        handler = type("BoundHandler", (Handler,), {"site": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.handle_error = lambda *_: None  # clients may disconnect at any time
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def run(self, entity, project, name):
        """Return a run by its id, or by its display name."""
        by_id = self.runs.get((entity, project, name))
        by_name = [r for (e, p, _), r in self.runs.items() if (e, p, r.display_name) == (entity, project, name)]
        return by_id or (by_name[0] if by_name else None)

    @property
    def environment(self):
        """Variables that direct a client to this server only."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false"}


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    site = None

    def log_message(self, *_):
        """Log nothing."""

    def do_GET(self):
        """Serve a file of a run."""
        self.site.keys.append(self.headers.get("Authorization"))
        if self._faulty():
            return
        entity, project, name, file = (unquote(part) for part in urlparse(self.path).path.split("/", 5)[2:])
        run = self.site.runs.get((entity, project, name))
        content = run and run.files.get(file)
        if content is None:
            return self._answer(404, {"errors": ["no such file"]})
        content = self.site.on_download(file, content)
        return self._answer(200, content) if isinstance(content, bytes) else self._send(content)

    def do_PUT(self):
        """Store a file of a run."""
        body = self._body()
        if self._faulty():
            return
        entity, project, name, file = (unquote(part) for part in urlparse(self.path).path.split("/", 5)[2:])
        self.site.runs[entity, project, name].files[file] = body
        self._answer(200, {})

    def do_POST(self):
        """Answer GraphQL requests, and store metrics."""
        body = self._body()
        path = urlparse(self.path).path
        if path.startswith("/sdk/otel"):  # the client's own telemetry
            return self._answer(200, {})
        request = json.loads(body)
        operation = re.search(r"\b(?:query|mutation) (\w+)", request.get("query", ""))
        self.site.requests.append(operation[1] if operation else path)
        if self._faulty():
            return None
        expected = "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()
        if self.headers.get("Authorization") != expected:
            return self._answer(401, {"errors": [{"message": "user is not logged in"}]})
        if path == "/graphql":
            return self._graphql(operation[1], request.get("variables") or {})
        if match := re.fullmatch("/files/([^/]+)/([^/]+)/([^/]+)/file_stream", path):
            return self._stream(self.site.runs[tuple(map(unquote, match.groups()))], request)
        return self._answer(404, {})

    def _graphql(self, operation, values):
        answer = getattr(self, f"_{operation}", None)
        data = answer(values) if answer else {}
        if data is None:
            return self._answer(404, {"errors": [{"message": f"{operation}: not found"}]})
        return self._answer(200, {"data": data})

    def _stream(self, run, request):
        files = request.get("files", {})
        if history := files.get("wandb-history.jsonl"):
            first = history["offset"]  # replaces lines that were sent before
            run.history[first : first + len(history["content"])] = map(json.loads, history["content"])
        for line in files.get("wandb-summary.json", {}).get("content", []):
            run.summary = json.loads(line)
        if request.get("complete"):
            run.state = "finished" if request.get("exitcode") == 0 else "failed"
        self._answer(200, {})

    def _body(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, code, content):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        with contextlib.suppress(OSError):
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _send(self, chunks):
        """Send a body of unknown length, until the client hangs up."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.send_response(200)
            self.end_headers()
            for chunk in chunks:
                self.wfile.write(chunk)

    def _page(self):
        return {
            "endCursor": str(len(self.site.requests)) if self.site.endless else None,
            "hasNextPage": self.site.endless,
        }

    def _faulty(self):
        """Misbehave if a fault is switched on; return whether that answered the request."""
        time.sleep(self.site.slow)
        if not self.site.fault:
            return False
        FAULTS[self.site.fault](self)
        return True

    def _silence(self):
        self.site._released.wait()

    def _break(self):
        self.close_connection = True
        self.connection.close()

    # The answers to GraphQL operations, by name.

    def _Viewer(self, values):
        return {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}

    _GetDefaultEntity = _Viewer

    def _RunResumeStatus(self, values):
        run = self.site.runs.get((values["entity"] or "me", values["project"], values["name"]))
        entity = {"id": "e", "name": values["entity"] or "me"}
        return {"model": {"id": "p", "name": values["project"], "entity": entity, "bucket": run and _resumed(run)}}

    def _UpsertBucket(self, values):
        entity, project, name = values["entity"] or "me", values["project"], values["name"]
        inserted = (entity, project, name) not in self.site.runs
        run = self.site.runs.setdefault((entity, project, name), Run(name, values.get("displayName") or name))
        run.group = values.get("groupName") or run.group
        if values.get("config"):
            run.config = json.loads(values["config"])
        run.state = "running"
        bucket = {"id": name, "name": name, "displayName": run.display_name, "config": "{}"}
        bucket |= {"historyLineCount": len(run.history), "sweepName": None, "description": None}
        bucket["project"] = {"id": "p", "name": project, "entity": {"id": "e", "name": entity}}
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _CreateRunFiles(self, values):
        path = "/".join(quote(values[key], safe="") for key in ("entity", "project", "run"))
        files = [
            {"name": file, "uploadUrl": f"{self.site.url}/storage/{path}/{quote(file)}"} for file in values["files"]
        ]
        return {"createRunFiles": {"runID": values["run"], "uploadHeaders": [], "files": files}}

    def _Run(self, values):
        run = self.site.runs.get((values["entity"], values["project"], values["name"]))
        return {"project": {"run": run and _described(run)}}

    def _Runs(self, values):
        project = values["entity"], values["project"]
        if not any(key[:2] == project for key in self.site.runs):
            return {"project": None}
        wanted = json.loads(values["filters"])["display_name"]
        matching = [r for key, r in self.site.runs.items() if key[:2] == project and r.display_name == wanted]
        edges = [{"node": _described(run), "cursor": run.name} for run in matching]
        runs = {"edges": edges, "pageInfo": self._page()}
        return {"project": {"internalId": "1", "runCount": len(matching), "readOnly": False, "runs": runs}}

    def _RunFiles(self, values):
        key = values["entity"], values["project"], values["name"]
        run, names = self.site.runs[key], values.get("fileNames")
        path = "/".join(quote(part, safe="") for part in key)
        edges = []
        for file, content in sorted(run.files.items()):
            if not names or file in names:
                url = f"{self.site.storage or self.site.url}/storage/{path}/{quote(file)}"
                edges.append({"node": _described_file(file, content, url), "cursor": file})
        result = {"fileCount": len(run.files), "files": {"edges": edges, "pageInfo": self._page()}}
        return {"project": {"internalId": "1", "run": result}}


FAULTS = {
    "silent": Handler._silence,
    "breaks": Handler._break,
    "error": lambda handler: handler._answer(500, {"errors": ["boom"]}),
    "garbage": lambda handler: handler._answer(200, b"<html>\x00\xff not what you asked for"),
    "empty": lambda handler: handler._answer(200, {"data": None}),
}


def _described(run):
    """Return a run as the public API describes it."""
    nothing = dict.fromkeys(("sweepName", "jobType", "commit", "description", "notes"))
    times = dict.fromkeys(("createdAt", "heartbeatAt"), "2026-01-01T00:00:00Z")
    texts = {"config": json.dumps(run.config), "summaryMetrics": json.dumps(run.summary), "systemMetrics": "{}"}
    numbers = {"historyLineCount": len(run.history), "historyKeys": {}, "readOnly": False, "tags": []}
    numbers["user"] = {"name": "me", "username": "me"}
    names = {"id": run.name, "name": run.name, "displayName": run.display_name, "projectId": "1"}
    return nothing | times | texts | numbers | names | {"state": run.state, "group": run.group}


def _resumed(run):
    """Return the fields that a client needs to resume a run."""
    counts = {"historyLineCount": len(run.history), "eventsLineCount": 0, "logLineCount": 0}
    tail = {"historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]), "eventsTail": "[]"}
    return {
        **{"id": run.name, "name": run.name, "displayName": run.display_name, "tags": [], "notes": None},
        **{"summaryMetrics": json.dumps(run.summary), "config": json.dumps(run.config), "wandbConfig": '{"t": 1}'},
        **counts,
        **tail,
    }


def _described_file(file, content, url):
    """Return a file as the public API describes it."""
    md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
    metadata = {"sizeBytes": str(len(content)), "md5": md5, "mimetype": "", "updatedAt": "2026-01-01T00:00:00Z"}
    return {"id": file, "name": file, "url": url, "directUrl": url, **metadata}
