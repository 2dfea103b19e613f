// The server's ear (moshi-server's /api/asr-streaming): sound in, words back.

import { pack, unpack } from "./msgpack.js";

const FRAME = 1920; // samples at 24 kHz
const FRAME_S = FRAME / 24000;
const EARLY = 125; // frames kept until the server is ready: 10 s
const SILENCE_S = 4; // more than any model waits before it writes a word
const PATIENCE = 20; // seconds more, one by one, for a slow server
const TAKEN = "no free channels"; // as moshi-server says it

export class Ears {
  /**
   * @param {object} on handlers: ready(), word(text, startS), ended(endS), failed(words),
   *   closed(). Times are seconds from the first frame.
   */
  constructor(on) {
    this.on = on;
    this.ready = this.gone = false;
    this.turn = 0; // counts the sounds of this connection
    this.begin();
    const url = new URL("api/asr-streaming", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => this.take(unpack(new Uint8Array(data)));
    this.socket.onclose = () => this.over();
  }

  begin() {
    clearInterval(this.timer);
    this.turn++;
    this.early = [];
    this.skippedS = 0;
  }

  take(message) {
    switch (message.type) {
      case "Ready":
        this.ready = true;
        this.on.ready?.();
        for (const pcm of this.early.splice(0)) this.put(pcm);
        break;
      case "Word":
        if (this.ready) this.on.word(message.text, this.skippedS + message.start_time);
        break;
      case "EndWord":
        if (this.ready) this.on.ended(this.skippedS + message.stop_time);
        break;
      case "Marker":
        if (message.id === this.turn) this.close();
        break;
      case "Error":
        this.on.failed(message.message === TAKEN ? "all places are taken" : message.message);
        break;
    }
  }

  /** Takes 1920 samples at 24 kHz. */
  put(pcm) {
    if (this.ready) return this.send({ type: "Audio", pcm });
    if (this.early.push(pcm.slice()) > EARLY) {
      this.early.shift();
      this.skippedS += FRAME_S;
    }
  }

  send(fields) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(pack(fields));
  }

  /** Forgets the sound: the next frame begins another. */
  restart() {
    this.begin();
    this.ready = false; // until the server is: what comes is of the old sound
    this.send({ type: "Init" });
  }

  /** No more sound will come: the last words do, then it closes. */
  finish() {
    if (!this.ready) return this.close();
    this.send({ type: "Marker", id: this.turn });
    const silent = (seconds) => {
      for (let i = 0; i < seconds / FRAME_S; i++) this.put(new Float32Array(FRAME));
    };
    silent(SILENCE_S);
    let left = PATIENCE;
    this.timer = setInterval(() => (left-- > 0 ? silent(1) : this.close()), 1000);
  }

  close() {
    this.socket.close(1000);
    this.over();
  }

  over() {
    clearInterval(this.timer);
    this.ready = false;
    if (!this.gone) this.on.closed?.();
    this.gone = true;
  }
}
