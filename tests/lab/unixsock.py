"""An upstream of the lab behind a unix socket. What it does with a connection stands in the path of the request, which it
looks at without taking it out of the socket.

Usage: unixsock.py PATH BACKLOG. With a backlog of 0 it fills its own queue and accepts nothing.
"""

import os
import signal
import socket
import sys
import time

HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n"


def head_of(peer):
    """The head of the request, left where it is."""
    while True:
        data = peer.recv(65536, socket.MSG_PEEK)
        if b"\r\n\r\n" in data or not data:
            return data
        time.sleep(0.01)


def serve(peer):
    head = head_of(peer)
    path = head.split(b" ")[1].decode() if head else ""
    if path == "/killed-unread":
        os.kill(os.getpid(), signal.SIGKILL)
    if path == "/half-unread":
        peer.sendall(HALF)
        time.sleep(0.3)
    if path in ("/early", "/half", "/killed", "/whole"):
        peer.recv(65536)
    if path == "/killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if path == "/half":
        peer.sendall(HALF)
        time.sleep(0.3)
    if path == "/whole":
        peer.sendall(WHOLE)
    peer.close()


path, backlog = sys.argv[1], int(sys.argv[2])
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
os.chmod(path, 0o777)
if backlog == 0:
    listener.listen(0)
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(path)
    signal.pause()
listener.listen(backlog)
while True:
    serve(listener.accept()[0])
