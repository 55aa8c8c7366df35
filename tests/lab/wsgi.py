"""A WSGI application under gunicorn: answers at once, hangs, or hangs and ignores the arbiter's SIGABRT."""

import signal
import time


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/stubborn":
        signal.signal(signal.SIGABRT, signal.SIG_IGN)
    if path in ("/hang", "/stubborn"):
        print("hanging", flush=True)
        time.sleep(60)
    start_response("200 OK", [("Content-Length", "6")])
    return [b"hello\n"]
