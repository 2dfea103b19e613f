"""A protocol of your own: here 16-bit samples over a WebSocket, and text as it is said.

python examples/own_protocol.py [QUESTION.wav]     a server, and a client that asks it
python examples/own_protocol.py --serve            the server alone, on port 9000

The client sends binary messages of any length (int16, 24 kHz, mono). For each frame of
80 ms the server sends one back, and a text message if Moshi has said something. Needs
the extra `serve`. Only this machine can connect: read docs/server.md before you change
that.
"""

import asyncio
import sys
from pathlib import Path

import numpy as np
import uvicorn
import websockets
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

import moshi_mlx
from moshi_mlx.audio import SAMPLE_RATE, Framer, read
from moshi_mlx.engines.duplex.engine import Moshi

SHIPPED = Path(moshi_mlx.__file__).parent / "demo" / "questions" / "joke.wav"
PORT = 9000
TAIL_S = 4  # of silence after the question, in which Moshi answers


def server(moshi: Moshi) -> FastAPI:
    """One conversation for each connection."""
    app = FastAPI()

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        framer = Framer()
        async with await moshi.asession(seed=1, first="silence") as session:
            try:
                while True:
                    pcm = np.frombuffer(await socket.receive_bytes(), "<i2")
                    for frame in framer.push(pcm.astype(np.float32) / 32768):
                        reply = await session.astep(frame)
                        if reply.text:
                            await socket.send_text(reply.text)
                        if reply.pcm is not None:
                            said = (reply.pcm.clip(-1, 1) * 32767).astype("<i2")
                            await socket.send_bytes(said.tobytes())
            except WebSocketDisconnect:
                pass  # the client has gone

    app.add_api_websocket_route("/talk", talk)
    return app


async def ask(question: str | Path, port: int) -> None:
    """A client: sends the question, then silence; prints what comes back."""
    pcm = np.append(read(question)[0], np.zeros(TAIL_S * SAMPLE_RATE, np.float32))
    frames = len(pcm) // 1920
    async with websockets.connect(f"ws://localhost:{port}/talk") as socket:
        await socket.send((pcm * 32767).astype("<i2").tobytes())
        heard = 0
        while heard < frames - 3:  # the first frames have no sound yet
            message = await socket.recv()
            if isinstance(message, str):
                print(message, end="", flush=True)
            else:
                heard += 1
    print(f"\n{heard} frames came back")


async def main(question: str | Path | None) -> None:
    with moshi_mlx.load_moshi("demo") as moshi:
        port = PORT if question is None else 0  # 0: any that is free
        config = uvicorn.Config(server(moshi), port=port, log_level="warning")
        running = uvicorn.Server(config)
        serving = asyncio.create_task(running.serve())
        if question is not None:
            while not running.started:
                await asyncio.sleep(0.01)
            await ask(question, running.servers[0].sockets[0].getsockname()[1])
            running.should_exit = True
        await serving


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else SHIPPED
    asyncio.run(main(None if given == "--serve" else given))
