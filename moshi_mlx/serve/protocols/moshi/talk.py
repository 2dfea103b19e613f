"""One conversation over one WebSocket, from handshake to end."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from dataclasses import dataclass, replace

from ....audio.framing import SAMPLE_RATE, Framer
from ....documents.recording import Recording
from ....engines.duplex.persona import Start
from ....engines.duplex.session import DuplexSession
from ....engines.line import Answer
from ....engines.queue import Dropped
from ....errors import AudioError, MoshiError
from ....utils.sampling import new_seed
from ...eyes import colour_of
from ...gate.limits import Inflow
from ...opus import Pcm
from ...replies import until_gone
from ...service import Service
from ...tasks import cancel_all, post, within
from . import messages as protocol
from .ending import Ending, Socket
from .messages import Control, MessageKind
from .pictures import Early, Pictures
from .settings import Settings

_log = logging.getLogger(__name__)

TICK_S = 0.5  # between checks of the clock, and between two stats messages
_LONG = 2048  # bytes of Opus: half a second, decoded in 5 ms
CALM_MS = 240.0  # frames that may wait before silence is dropped: jitter


@dataclass
class _Unsent:
    """A reply on its way to the client."""

    pcm: Pcm | None
    text: str
    colour: int | None = None  # of the text, if the model sees a picture


def worded(reply: _Unsent) -> bytes:
    """The message with a reply's text."""
    if reply.colour is None:
        return protocol.text(reply.text)
    return protocol.colored_text(reply.colour, reply.text)


class NetworkTalk:
    """A conversation: opened by ``begin``, active in ``run``, ended by ``end``.

    Args:
        service: model and counters.
        socket: accepted.
        settings: what the client asked for.
    """

    def __init__(self, service: Service, socket: Socket, settings: Settings):
        self.service, self.socket, self.settings = service, socket, settings
        assert service.batch is not None and service.about is not None
        self._batch, self._about = service.batch, service.about
        self.limits = service.limits
        self._loop = asyncio.get_running_loop()
        self._reader, self._writer = settings.reader(), settings.writer()
        connection = socket.scope.get("gate")
        self._inflow = connection.inflow if connection else Inflow(self.limits)
        self._framer = Framer()
        self._unsent: deque[_Unsent] = deque()
        self._something_unsent = asyncio.Event()
        self._broken: asyncio.Future[None] = self._loop.create_future()
        self._session: DuplexSession | None = None
        self._start: Start | None = None  # a persona, first words
        self._pictures = Pictures(service, socket, settings.look, self._send)
        self._recording: Recording | None = None
        self._to_record = False
        self._paused = False
        self._unheard = 0  # replies that never left
        self._dropped = Dropped()
        self._last: Answer | None = None
        self._began_at = self._sent_at = time.monotonic()
        self._line = service.thread.open(
            *(self._make, self._on_answer, self._on_error),
            limit_ms=self.limits.waiting_ms,
            calm_ms=CALM_MS,
            together=self._batch.step,
        )

    # On the model's thread

    def _make(self) -> DuplexSession:
        if self._session is not None:
            self._session.close()
        wanted = self.settings
        self._session = self._batch.open(
            wanted.wishes, start=self._start, adapter=wanted.adapter
        )
        if (sight := self._pictures.sight) is not None:
            self._session.show(sight.source, sight.start)
        return self._session

    def _show(self) -> None:
        """Let the conversation see another picture at once."""
        if self._session is not None and (sight := self._pictures.sight) is not None:
            self._session.show(sight.source, start=0)

    def _on_answer(self, answer: Answer) -> None:
        post(self._loop, self._deliver, answer)

    def _on_error(self, error: Exception) -> None:
        post(self._loop, self._break, error)

    # On the event loop

    def _break(self, error: Exception) -> None:
        if not self._broken.done():
            self._broken.set_exception(error)

    def _deliver(self, answer: Answer) -> None:
        """Take an answer of the model: count it, record it, queue it for sending."""
        self._last = answer
        self.service.count(answer)
        self._count_dropped(answer.dropped)
        self._record(answer)
        gate = answer.reply.gate
        colour = None if gate is None else colour_of(gate)
        self._unsent.append(_Unsent(answer.reply.pcm, answer.reply.text, colour))
        if len(self._unsent) > self.limits.unsent_frames:
            oldest = self._unsent.popleft()
            self._unsent[0].text = oldest.text + self._unsent[0].text
            self._unheard += 1
            self.service.metrics.dropped.add("unsent")
        self._something_unsent.set()

    def _record(self, answer: Answer) -> None:
        """Record a frame of both sides; a full disk does not end the conversation."""
        if self._recording is None and self._to_record:
            self._to_record = False
            self._recording = self.service.new_recording(self.settings.wishes.seed)
        if self._recording is not None:
            try:
                self._recording.add(answer.frame, answer.reply.pcm, answer.reply.text)
            except AudioError as error:
                _log.error("recording stopped: %s", error)
                self._close_recording()

    def _count_dropped(self, dropped: Dropped) -> None:
        counter = self.service.metrics.dropped
        counter.add("silent", max(0, dropped.silent - self._dropped.silent))
        counter.add("spoken", max(0, dropped.spoken - self._dropped.spoken))
        self._dropped = dropped

    async def begin(self, early: Early) -> None:
        """Take a row of the model and tell the client that it may speak.

        If the client has promised a picture, wait for it.

        Raises: ProtocolError for a persona or an adapter that is not available.
        """
        personas, wanted = self.service.personas, self.settings
        self.service.check_adapter(wanted.adapter)
        if personas is not None:
            self._start = await asyncio.to_thread(
                personas.start, wanted.persona, wanted.voice
            )
        await self._pictures.first(early)
        await self._renew()
        await self._send(protocol.handshake())

    async def _renew(self) -> None:
        """Start a new conversation in the same place."""
        await asyncio.wrap_future(self._line.restart())
        self._unsent.clear()
        self._framer = Framer()
        wishes = self.settings.wishes
        self._close_recording()
        self._to_record = True  # with the first frame: no frames, no file
        await self._send(protocol.metadata(self._about.metadata(wishes)))

    async def run(self, early: Early) -> None:
        """Talk until something ends it: raises the Ending, or another error."""
        for data in early.messages:
            await self._take(data)
        jobs = [self._receive_all(), self._send_all(), self._watch()]
        jobs += [self._server_closes(), self._client_goes()]
        tasks = {asyncio.ensure_future(job) for job in jobs} | {self._broken}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await cancel_all(*tasks)

    async def end(self) -> None:
        """Free row, queue and files."""
        self._line.close()
        self._pictures.close()
        self._to_record = False  # answers may still be on their way
        self._close_recording()
        with contextlib.suppress(MoshiError):  # the model has been closed already
            await self.service.close_row(lambda: self._session)

    def _close_recording(self) -> None:
        if self._recording is not None:
            self._recording.close()
            self._recording = None

    async def _receive_all(self) -> None:
        while True:
            patience = self.limits.paused_s if self._paused else self.limits.idle_s
            try:
                event = await within(self.socket.receive(), patience)
            except asyncio.TimeoutError:
                words = f"nothing came for {patience:g} s, so the conversation ended."
                raise Ending("idle", 1000, words) from None
            if event["type"] == "websocket.disconnect":
                raise Ending("closed", 1000)
            data = event.get("bytes")
            if data is not None:
                await self._take(data)

    async def _take(self, data: bytes) -> None:
        message = protocol.parse(data)
        if message is None:
            return
        if message.kind is MessageKind.AUDIO:
            pcm = await self._decoded(message.payload)
            self._inflow.sound(len(pcm) / SAMPLE_RATE)
            if not self._paused:
                for frame in self._framer.push(pcm):
                    self._line.put(frame)
                    self.service.metrics.frames.add("heard")
        elif message.kind is MessageKind.CONTROL:
            await self._obey(message.control)
        elif message.kind is MessageKind.IMAGE and self.service.eyes.open:
            self._inflow.image()
            self._pictures.change(bytes(message.payload), self._see, self._break)

    async def _see(self) -> None:
        await self._batch.moshi.owner.arun(self._show)

    async def _decoded(self, payload: memoryview) -> Pcm:
        """The samples of a message; much Opus is decoded beside the event loop."""
        if self.settings.format == "pcm" or len(payload) < _LONG:
            return self._reader.push(payload)
        return await asyncio.to_thread(self._reader.push, payload)

    async def _obey(self, control: Control) -> None:
        if control is Control.RESTART:
            self._inflow.restart()
            if not self.settings.seeded:
                wishes = replace(self.settings.wishes, seed=new_seed())
                self.settings = replace(self.settings, wishes=wishes)
            await self._renew()
            await self._send(protocol.control(Control.RESTART))
        elif control in (Control.START, Control.PAUSE):
            self._paused = control is Control.PAUSE
            self._framer = Framer()

    async def _send_all(self) -> None:
        while True:
            await self._something_unsent.wait()
            self._something_unsent.clear()
            while self._unsent:
                reply = self._unsent.popleft()
                if reply.pcm is not None:
                    await self._send(protocol.audio(self._writer.push(reply.pcm)))
                if reply.text:
                    await self._send(worded(reply))

    async def _send(self, data: bytes) -> None:
        try:
            await within(self.socket.send_bytes(data), self.limits.send_s)
        except asyncio.TimeoutError:
            raise Ending("slow", 1008) from None
        self._sent_at = time.monotonic()

    async def _watch(self) -> None:
        """Pings, stats, and the longest time a conversation may take."""
        while True:
            await asyncio.sleep(TICK_S)
            if not self.service.ready:
                words = "the model has stopped: the server must be restarted."
                raise Ending("failed", 1011, words)
            if self.settings.stats:
                await self._send(protocol.metadata({"stats": self.stats()}))
            now = time.monotonic()
            if now - self._sent_at > self.limits.ping_s:
                await self._send(protocol.PING)
            longest = self.limits.session_s
            if longest is not None and now - self._began_at > longest:
                words = f"conversations end after {longest:g} s here: start another."
                raise Ending("closed", 1000, words)

    async def _server_closes(self) -> None:
        await self.service.closing.wait()
        raise Ending("closed", 1012, "the server is shutting down.")

    async def _client_goes(self) -> None:
        await until_gone(self.socket.scope)
        raise Ending("closed", 1000)

    def stats(self) -> dict[str, float]:
        """The values that the page shows beside the conversation."""
        last = self._last
        return {
            "lag_ms": 0 if last is None else round(1000 * last.lag_s, 1),
            "step_ms": 0 if last is None else round(1000 * last.step_s, 1),
            "waiting_ms": self._line.waiting_ms,
            "dropped_silent": self._dropped.silent,
            "dropped_spoken": self._dropped.spoken,
            "unsent": self._unheard,
        }
