# SPDX-License-Identifier: Apache-2.0
"""Between a client and a daemon; answers as the daemon does, but for what it is told to change."""
import contextlib
import http.server
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        accept = self.headers.get("Accept", "*/*")
        r = self.server.daemon.get(self.path, headers={"Accept": accept})
        status, body = r.status_code, r.content
        if accept != "application/octet-stream":
            changed = self.server.change(self.path, r.text)
            status, text = changed if isinstance(changed, tuple) else (status, changed)
            body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", r.headers["Content-Type"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def between(daemon, change=lambda path, text: text):
    """A server with .url; its .change(path, text) gives the text that is answered, or (status, text)."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon, server.change = daemon, change
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
