"""An ASGI application under uvicorn that answers at once."""


async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    headers = [(b"content-length", b"6")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello\n"})
