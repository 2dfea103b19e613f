// Moshi's WebSocket protocol, as this page speaks it: raw float32 sound at 24 kHz.

const AUDIO = 1;
const TEXT = 2;
const CONTROL = 3;
const METADATA = 4;
const ERROR = 5;
const COLOURED = 7;
const IMAGE = 8;
export const RESTART = 3;

/**
 * Opens a connection.
 *
 * @param {Record<string, string>} wishes query parameters: temperatures, seed.
 * @param {object} on handlers: ready(), sound(Float32Array), text(string, colour),
 *   about(object), queue(number), stats(object), pictured(object), restarted(),
 *   failed(string), closed(code, reached)
 * @param {Uint8Array | null} picture a file that the wishes announce.
 */
export function connect(wishes, on, picture = null) {
  const url = new URL("api/chat", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams({ ...wishes, format: "pcm", queue: "1", stats: "1" });
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  let reached = false;
  const handlers = {
    0: () => {
      reached = true;
      on.ready();
    },
    [AUDIO]: (payload) => on.sound(new Float32Array(payload.slice().buffer)),
    [TEXT]: (payload) => on.text(words(payload), 0),
    [COLOURED]: (payload) => on.text(words(payload.subarray(1)), payload[0]),
    [CONTROL]: (payload) => payload[0] === RESTART && on.restarted(),
    [METADATA]: (payload) => {
      const data = JSON.parse(words(payload));
      if (data.stats) on.stats(data.stats);
      else if (data.queue) on.queue(data.queue.place);
      else if (data.image) on.pictured(data.image);
      else on.about(data);
    },
    [ERROR]: (payload) => on.failed(words(payload)),
  };
  socket.onmessage = ({ data }) => {
    const bytes = new Uint8Array(data);
    handlers[bytes[0]]?.(bytes.subarray(1));
  };
  const show = (file) => {
    const message = new Uint8Array(1 + file.length);
    message[0] = IMAGE;
    message.set(file, 1);
    socket.send(message);
  };
  if (picture) socket.onopen = () => show(picture);
  socket.onclose = ({ code }) => on.closed(code, reached);
  return {
    sound(pcm) {
      if (!reached || socket.readyState !== WebSocket.OPEN) return false;
      if (socket.bufferedAmount > 4 * 24000) return false; // a second is stuck already
      const message = new Uint8Array(1 + pcm.byteLength);
      message[0] = AUDIO;
      message.set(new Uint8Array(pcm.buffer, pcm.byteOffset, pcm.byteLength), 1);
      socket.send(message);
      return true;
    },
    show(file) {
      if (socket.readyState === WebSocket.OPEN) show(file);
    },
    restart() {
      if (socket.readyState === WebSocket.OPEN) {
        socket.send(new Uint8Array([CONTROL, RESTART]));
      }
    },
    close() {
      socket.onclose = null;
      socket.close(1000);
    },
  };
}

const words = (bytes) => new TextDecoder().decode(bytes);
