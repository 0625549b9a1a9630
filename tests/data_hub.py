"""A hub on this machine: the real JSON forms and Range requests over real sockets, and every way to go wrong."""

import hashlib
import json
import sys
import threading
import urllib.parse
from collections import defaultdict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34


class Server(ThreadingHTTPServer):
    """Takes as many connections as come at once, and says nothing of clients that go away: a test may read stderr."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Hub:
    """Serves the files of `files`; `faults[path]` holds what happens to the next requests for that path, in order.

    A fault is a status such as 503 or (429, "7"), ("cut", bytes), ("ignore range",), ("instead", content) or
    ("stop", bytes): send so many bytes, then nothing until `released` is set.
    """

    def __init__(self):
        self.files = {}
        self.plain = set()
        self.faults = defaultdict(deque)
        self.requests = []
        self.token = None
        self.page_size = 1000
        self.storage = None
        self.released = threading.Event()
        self.stopped = threading.Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.answer(self)

            def log_message(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request):
        url = urllib.parse.urlsplit(request.path)
        path = urllib.parse.unquote(url.path)
        self.requests.append((path, dict(request.headers)))
        name = path.partition(f"/resolve/{COMMIT}/")[2]
        key = name if name else "tree" if "/tree/" in path else "revision" if "/revision/" in path else path
        faults = self.faults[path] or self.faults[key]
        fault = faults.popleft() if faults else None
        if isinstance(fault, int) or (fault and isinstance(fault[0], int)):
            status, wait = fault if isinstance(fault, tuple) else (fault, None)
            return self.send(request, b"busy", status, {"Retry-After": wait} if wait else {})
        if (
            self.token
            and request.headers.get("Authorization") != f"Bearer {self.token}"
            and not path.startswith("/storage/")
        ):
            return self.send(request, b"{}", 403 if request.headers.get("Authorization") else 401)
        if key == "revision":
            return self.send(request, json.dumps({"id": "me/data", "sha": COMMIT, "siblings": []}).encode())
        if key == "tree":
            return self.send_tree(request, int(urllib.parse.parse_qs(url.query).get("cursor", ["0"])[0]), fault)
        if self.storage and not path.startswith("/storage/"):
            return self.send(request, b"", 302, {"Location": f"{self.storage}/storage{path}"})
        content = self.files.get(name)
        if content is None:
            return self.send(request, b"{}", 404)
        return self.send_file(request, content, fault)

    def send_tree(self, request, start, fault):
        names = sorted(self.files)
        entries = [{"type": "directory", "oid": "0", "size": 0, "path": "data"}] if start == 0 else []
        for name in names[start : start + self.page_size]:
            content = self.files[name]
            entry = {"type": "file", "oid": "0" * 40, "size": len(content), "path": name}
            if name in self.plain:
                entry["oid"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            else:
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            entries.append(entry)
        headers = {}
        if start + self.page_size < len(names):
            path = request.path.partition("?")[0]
            headers["Link"] = f'<{self.url}{path}?recursive=true&cursor={start + self.page_size}>; rel="next"'
        content = json.dumps(entries).encode()
        if fault:  # ("cut", bytes)
            request.close_connection = True
            self.send(request, content[: fault[1]], headers={"Content-Length": str(len(content))})
        else:
            self.send(request, content, headers=headers)

    def send_file(self, request, content, fault):
        action = fault[0] if fault else None
        content = fault[1] if action == "instead" else content
        sent = fault[1] if action in ("cut", "stop") else 0
        start, status = 0, 200
        wanted = request.headers.get("Range")
        if wanted and action != "ignore range":
            start, status = int(wanted.removeprefix("bytes=").removesuffix("-")), 206
        rest = content[start:]
        request.send_response(status)
        request.send_header("Content-Length", str(len(rest)))
        if status == 206:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        try:
            if action in ("cut", "stop"):
                request.wfile.write(rest[:sent])
                request.wfile.flush()
                request.close_connection = True
                if action == "stop":
                    self.stopped.set()
                    self.released.wait(600)
                return
            request.wfile.write(rest)
        except OSError:
            request.close_connection = True  # the client went away

    def send(self, request, content, status=200, headers=None):
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def ranges(self, name):
        """The Range header of every request for a file; None for all of it."""
        return [headers.get("Range") for path, headers in self.requests if path.endswith(f"/{name}")]
