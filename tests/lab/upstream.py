"""An upstream of the lab that users really run: python3's http.server.

Usage: upstream.py HOST PORT. `/hang` takes the request and never answers; it says so on stdout first.
Everything else is answered at once.
"""

import http.server
import signal
import socket
import sys
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/hang":
            print("hanging", flush=True)
            threading.Event().wait()
        body = b"hello\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
