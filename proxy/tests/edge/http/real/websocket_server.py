"""A page, its script, and an echo for WebSockets; prints what is asked. Its argument is the address to listen on."""

import asyncio
import http
import sys

from websockets.legacy.server import serve

PAGE = b'<!doctype html><title>page</title><script src="/script.js"></script>'
SCRIPT = b"""
const protocol = type => performance.getEntriesByType(type)[0].nextHopProtocol;
const report = what => fetch("/report?" + what);
addEventListener("load", () => {
  const socket = new WebSocket("wss://" + location.host + "/socket");
  socket.binaryType = "arraybuffer";
  socket.onopen = () => socket.send("text");
  socket.onerror = () => report("failed");
  socket.onmessage = event => {
    if (event.data === "text") return socket.send(new Uint8Array(1 << 20));
    const length = event.data.byteLength;
    socket.onclose = close => report([protocol("navigation"), protocol("resource"), length, close.code]);
    socket.send("close");
  };
});
"""


async def plain(path, _headers):
    print("request", path, flush=True)
    if path == "/socket":
        return None
    body = {"/": PAGE, "/script.js": SCRIPT}.get(path, b"")
    kind = "text/html" if path == "/" else "text/javascript"
    return http.HTTPStatus.OK, [("Content-Type", kind)], body


async def echo(socket):
    async for message in socket:
        if message == "close":
            await socket.close(4001, "as asked")
            return
        await socket.send(message)


async def main():
    serving = serve(echo, sys.argv[1], 0, process_request=plain, max_size=4 << 20)
    async with serving as server:
        print("port", server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


asyncio.run(main())
