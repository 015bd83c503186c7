"""A server on this machine that misbehaves in the ways that servers do."""

import gzip
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves `files`; `faults[path]` is a list of what to do instead, one entry used up by each request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.asked = {}, {}, Counter()
        self.waiting, self.most_at_once, self.lock = 0, 0, threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        with server.lock:
            server.asked[self.path] += 1
        with suppress(BrokenPipeError, ConnectionResetError):  # the client had enough
            self.answer(server)

    def answer(self, server):
        faults = server.faults.get(self.path, [])
        fault = faults.pop(0) if faults else None
        body = server.files.get(self.path)
        if fault == "drop":
            self.close_connection = True
            self.connection.shutdown(2)
            return
        if fault == "slow":
            self.wait(server)
        if isinstance(fault, int) or body is None:
            self.send_error(fault or 404)
            return
        if fault == "garbage":
            body = b"<html>welcome to the hotel's network</html>"
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if fault != "no ranges" else 0
        self.send_response(206 if start else 200)
        body = body[start:]
        if fault == "gzip":
            body = gzip.compress(bytes(10**7))
            self.send_header("Content-Encoding", "gzip")
        if fault == "endless":
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        while fault == "endless":
            self.wfile.write(bytes(1 << 16))
        if fault == "trickle":
            for byte in body:
                self.wfile.write(bytes([byte]))
                time.sleep(0.01)
            return
        self.wfile.write(body[: len(body) // 2] if fault == "truncate" else body)

    def wait(self, server):
        """Counts the requests that wait: until its answer goes out, a client cannot have asked for more."""
        with server.lock:
            server.waiting += 1
            server.most_at_once = max(server.most_at_once, server.waiting)
        time.sleep(0.05)
        with server.lock:
            server.waiting -= 1

    def log_message(self, *_):
        pass
