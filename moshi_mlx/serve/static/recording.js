// Both voices of the conversation, kept in the page only, for whoever wants to save them.

const RATE = 24000;
const FRAME = 1920;
const LONGEST_S = 20 * 60; // 115 MB; then the oldest minute goes

export class Recording {
  constructor() {
    this.clear();
  }

  clear() {
    this.sides = [[], []]; // frames of the user, frames of Moshi
    this.words = []; // {at, text}
  }

  get seconds() {
    return (Math.max(...this.sides.map((s) => s.length)) * FRAME) / RATE;
  }

  user(pcm) {
    this.sides[0].push(toInt16(pcm));
    if (this.seconds > LONGEST_S) this.sides.forEach((side) => side.splice(0, 750));
  }

  /** Moshi's frame is heard at the present: silence fills what it did not say. */
  moshi(pcm) {
    const [user, moshi] = this.sides;
    while (moshi.length < user.length - 12) moshi.push(new Int16Array(FRAME));
    moshi.push(toInt16(pcm));
  }

  text(text) {
    this.words.push({ at: this.seconds, text });
  }

  /** A stereo WAV file: the user left, Moshi right. */
  wav() {
    const frames = Math.max(...this.sides.map((s) => s.length));
    const bytes = frames * FRAME * 4;
    const view = new DataView(new ArrayBuffer(44 + bytes));
    const ascii = (at, text) => {
      [...text].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
    };
    ascii(0, "RIFF");
    view.setUint32(4, 36 + bytes, true);
    ascii(8, "WAVEfmt ");
    view.setUint32(16, 16, true);
    view.setUint16(20, 1, true); // PCM
    view.setUint16(22, 2, true);
    view.setUint32(24, RATE, true);
    view.setUint32(28, RATE * 4, true);
    view.setUint16(32, 4, true);
    view.setUint16(34, 16, true);
    ascii(36, "data");
    view.setUint32(40, bytes, true);
    const samples = new Int16Array(view.buffer, 44);
    this.sides.forEach((side, channel) => {
      side.forEach((frame, n) => {
        for (let i = 0; i < FRAME; i++) samples[2 * (n * FRAME + i) + channel] = frame[i];
      });
    });
    return new Blob([view], { type: "audio/wav" });
  }

  /** Lines with the time of their first word, broken at sentences and pauses. */
  transcript() {
    const lines = [];
    let last = null;
    for (const { at, text } of this.words) {
      const ended = last && /[.!?]\s*$/.test(last.text) && text.startsWith(" ");
      if (!last || ended || at - last.until > 2) lines.push((last = { at, text: "" }));
      last.text += text;
      last.until = at;
    }
    const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
    const text = lines.map((line) => `[${clock(line.at)}] ${line.text.trim()}\n`).join("");
    return new Blob([text], { type: "text/plain" });
  }
}

function toInt16(pcm) {
  const out = new Int16Array(FRAME);
  for (let i = 0; i < Math.min(FRAME, pcm.length); i++) {
    out[i] = Math.max(-1, Math.min(1, pcm[i])) * 32767;
  }
  return out;
}

/** Gives a file to the browser to save. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
