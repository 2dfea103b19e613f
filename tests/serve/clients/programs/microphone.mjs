// A microphone: a sound file (24 kHz, 16 bits) in real time, and silence after it.
import fs from "node:fs";

const PIECE = 1920; // bytes: 40 ms
const LONGEST_S = 90;

export async function microphone(file, push, over) {
  const samples = fs.readFileSync(file).subarray(44); // behind the header
  const start = performance.now();
  for (let from = 0; from < 48000 * LONGEST_S && !over(); from += PIECE) {
    const piece = Buffer.alloc(PIECE);
    samples.subarray(from, from + PIECE).copy(piece);
    push(piece);
    const ahead = start + from / 48 - performance.now();
    await new Promise((done) => setTimeout(done, Math.max(0, ahead)));
  }
}
