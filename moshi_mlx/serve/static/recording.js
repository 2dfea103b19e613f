// Both voices of the conversation, kept in the page only, for whoever wants to save them.

const RATE = 24000;
const FRAME = 1920;
const MINUTE = 750; // frames
const LONGEST_S = 20 * 60; // 115 MB; then the oldest minute goes

export class Recording {
  constructor() {
    this.clear();
  }

  clear() {
    this.sides = [[], []]; // frames of the user, frames of Moshi
    this.gone = 0; // frames of the oldest minutes
  }

  get seconds() {
    return (Math.max(...this.sides.map((s) => s.length)) * FRAME) / RATE;
  }

  /** Seconds since the conversation began. */
  get elapsed() {
    return this.seconds + (this.gone * FRAME) / RATE;
  }

  user(pcm) {
    this.sides[0].push(toInt16(pcm));
    if (this.seconds > LONGEST_S) {
      this.sides.forEach((side) => side.splice(0, MINUTE));
      this.gone += MINUTE;
    }
  }

  /** Moshi's frame is heard at the present: silence fills what it did not say. */
  moshi(pcm) {
    const [user, moshi] = this.sides;
    while (moshi.length < user.length - 12) moshi.push(new Int16Array(FRAME));
    moshi.push(toInt16(pcm));
  }

  /** A stereo WAV file: the user left, Moshi right. */
  wav() {
    const silence = new Int16Array(FRAME);
    const frames = Array.from({ length: Math.max(...this.sides.map((s) => s.length)) }, (_, n) => {
      const both = new Int16Array(2 * FRAME);
      this.sides.forEach((side, channel) => {
        (side[n] ?? silence).forEach((sample, i) => (both[2 * i + channel] = sample));
      });
      return both;
    });
    return new Blob([wav(frames, RATE, 2)], { type: "audio/wav" });
  }
}

/** A WAV file of 16-bit samples in pieces, channels interleaved. */
export function wav(pieces, rate, channels = 1) {
  const bytes = 2 * pieces.reduce((size, piece) => size + piece.length, 0);
  const view = new DataView(new ArrayBuffer(44 + bytes));
  const ascii = (at, text) => {
    [...text].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  };
  ascii(0, "RIFF");
  view.setUint32(4, 36 + bytes, true);
  ascii(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, channels, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * 2 * channels, true);
  view.setUint16(32, 2 * channels, true);
  view.setUint16(34, 16, true);
  ascii(36, "data");
  view.setUint32(40, bytes, true);
  const samples = new Int16Array(view.buffer, 44);
  let at = 0;
  for (const piece of pieces) {
    samples.set(piece, at);
    at += piece.length;
  }
  return view;
}

function toInt16(pcm) {
  const out = new Int16Array(FRAME);
  for (let i = 0; i < Math.min(FRAME, pcm.length); i++) {
    out[i] = Math.max(-1, Math.min(1, pcm[i])) * 32767;
  }
  return out;
}
