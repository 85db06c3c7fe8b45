"""A web server of the tests' own: answers by path, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Web:
    """``answers`` maps a path to status and body (JSON unless text), or to several of them, the last for good."""

    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str], str]] = field(default_factory=list)
    delay_s: float = 0
    pause_s: float = 0
    """Between two bytes of the answer."""

    def answer(self, path: str) -> tuple[int, Any]:
        found = self.answers.get(path.partition("?")[0], (404, "no such page"))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        return found[0], found[1]

    def paths(self) -> list[str]:
        return [path for _, path, _, _ in self.asked]


@contextlib.contextmanager
def serving() -> Iterator[Web]:
    """Serve on a free port of this machine until the block ends."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            web.asked.append((self.command, self.path, dict(self.headers.items()), body))
            time.sleep(web.delay_s)
            status, answer = web.answer(self.path)
            content = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for at in range(len(content)) if web.pause_s else ():
                    self.wfile.write(content[at : at + 1])
                    time.sleep(web.pause_s)
                if not web.pause_s:
                    self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - the names http.server looks for

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in http.server
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    web.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
