"""Text, 1 MiB of binary data, a ping and a close with a code. Arguments: the CA's file, name and address of the server."""

import asyncio
import ssl
import sys

from websockets.exceptions import ConnectionClosed
from websockets.legacy.client import connect

CA, NAME, ADDRESS = sys.argv[1:]


async def main():
    context = ssl.create_default_context(cafile=CA)
    where = {"host": ADDRESS, "port": 443, "server_hostname": NAME}
    async with connect(f"wss://{NAME}/socket", ssl=context, max_size=4 << 20, **where) as socket:
        await socket.send("text")
        print(await socket.recv())
        data = bytes(range(256)) * 4096
        await socket.send(data)
        print("same", await socket.recv() == data)
        await asyncio.wait_for(await socket.ping(b"are you there"), 20)
        print("pong")
        await socket.send("close")
        try:
            await socket.recv()
        except ConnectionClosed as end:
            print("closed", end.rcvd.code, end.rcvd.reason)


asyncio.run(main())
