"""A protocol is a function and a line; everything else stays as it is."""

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from moshi_mlx.engines.duplex.sampling import Sampling
from moshi_mlx.serve.protocols import PROTOCOLS
from moshi_mlx.serve.protocols.base import Protocol


async def spell(service, socket) -> None:
    """Toy: 16-bit frames in, the text tokens out, as decimal numbers."""
    await socket.accept()
    session = service.batch.open(Sampling(seed=1))
    try:
        while (data := await socket.receive()).get("bytes"):
            frame = np.frombuffer(data["bytes"], "<i2")
            reply = await session.astep(frame)
            await socket.send_text(str(reply.text_token))
    finally:
        session.close()


@pytest.mark.parametrize("frames", [3])
def test_a_protocol_of_ones_own_is_a_function_and_a_line(serve, monkeypatch, frames):
    monkeypatch.setitem(PROTOCOLS, "spell", Protocol({"/api/spell": spell}))
    server = serve()
    told = []
    for _ in range(2):  # the second finds the row free again
        with connect(f"ws://localhost:{server.port}/api/spell") as socket:
            for _ in range(frames):
                socket.send(np.zeros(1920, "<i2").tobytes())
                told.append(int(socket.recv()))
    assert told[:frames] == told[frames:]


def test_a_path_without_a_protocol_is_refused(serve):
    with pytest.raises(InvalidStatus):
        connect(f"ws://localhost:{serve().port}/api/spell").close()
