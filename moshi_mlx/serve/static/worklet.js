// Runs on the browser's audio thread: microphone to frames, frames to loudspeaker.
// Between it and the page cross Float32Arrays at 24 kHz.

const RATE = 24000; // Hz, of the model
const FRAME = 1920; // samples: 80 ms
const TAPS = 16; // samples that the resampler looks at, on each side
const PHASES = 512; // places between two samples that it can tell apart

/** Any rate to any rate, piece by piece: a windowed sinc. */
class Resampler {
  constructor(from, to) {
    this.step = from / to;
    const cutoff = Math.min(1, to / from);
    this.half = Math.ceil(TAPS / cutoff);
    this.past = new Float32Array(2 * this.half);
    this.at = 0; // of the next output sample, from the first one that came last time
    this.weights = new Float32Array(PHASES * 2 * this.half);
    for (let i = 0; i < this.weights.length; i++) {
      const phase = Math.floor(i / (2 * this.half)) / PHASES;
      this.weights[i] = weight((i % (2 * this.half)) - this.half + 1 - phase, this.half, cutoff);
    }
  }

  push(input) {
    if (this.step === 1) return input;
    const width = 2 * this.half;
    const joined = new Float32Array(width + input.length);
    joined.set(this.past);
    joined.set(input, width);
    const out = [];
    while (this.at < input.length) {
      const whole = Math.floor(this.at);
      const row = Math.floor((this.at - whole) * PHASES) * width;
      let sum = 0;
      for (let i = 0; i < width; i++) sum += joined[whole + 1 + i] * this.weights[row + i];
      out.push(sum);
      this.at += this.step;
    }
    this.at -= input.length;
    this.past = joined.slice(-width);
    return Float32Array.from(out);
  }
}

/** Of a sample `x` samples away from the one that is made. */
function weight(x, half, cutoff) {
  const window = 0.5 + 0.5 * Math.cos((Math.PI * x) / half);
  const angle = Math.PI * x * cutoff;
  return cutoff * window * (Math.abs(angle) < 1e-9 ? 1 : Math.sin(angle) / angle);
}

/** Posts the microphone's sound in whole frames. */
class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, RATE);
    this.frame = new Float32Array(FRAME);
    this.filled = 0;
  }

  process([input]) {
    if (!input.length) return true;
    for (const sample of this.resampler.push(input[0])) {
      this.frame[this.filled++] = sample;
      if (this.filled === FRAME) {
        this.port.postMessage(this.frame, [this.frame.buffer]);
        this.frame = new Float32Array(FRAME);
        this.filled = 0;
      }
    }
    return true;
  }
}

/** Plays frames, a little behind their arrival, so that a late one leaves no gap. */
class Speaker extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(RATE, sampleRate);
    this.ring = new Float32Array(2 ** 18); // 5 s at 48 kHz
    this.start = 0;
    this.held = 0;
    this.playing = false;
    this.gain = 0; // of fades: no clicks
    this.target = this.samples(60); // ms held before sound begins
    this.late = 0; // times the sound ran out
    this.skipped = 0; // samples left out to catch up
    this.blocks = 0;
    this.lowest = Infinity; // held, in the last two seconds
    this.port.onmessage = ({ data }) => this.take(data);
  }

  samples(milliseconds) {
    return Math.round((sampleRate * milliseconds) / 1000);
  }

  take(data) {
    if (data === "forget") {
      this.held = 0;
      this.playing = false;
      return;
    }
    for (const sample of this.resampler.push(data)) {
      if (this.held === this.ring.length) this.drop(1);
      this.ring[(this.start + this.held) % this.ring.length] = sample;
      this.held++;
    }
    if (this.held >= this.target) this.playing = true;
  }

  drop(count) {
    this.start = (this.start + count) % this.ring.length;
    this.held -= count;
    this.skipped += count;
  }

  process(_, [output]) {
    const out = output[0];
    for (let i = 0; i < out.length; i++) {
      const sound = this.playing && this.held > 0;
      const goal = sound && this.held > this.samples(4) ? 1 : 0;
      this.gain += (goal - this.gain) * 0.02;
      if (!sound) continue;
      out[i] = this.ring[this.start] * this.gain;
      this.start = (this.start + 1) % this.ring.length;
      this.held--;
    }
    for (const other of output.slice(1)) other.set(out);
    if (this.playing && this.held === 0) this.runOut();
    this.lowest = Math.min(this.lowest, this.held);
    if (++this.blocks % Math.round((2 * sampleRate) / 128) === 0) this.settle();
    if (this.blocks % Math.round(sampleRate / 128 / 4) === 0) this.report();
    return true;
  }

  /** The next frame was late: wait for more before going on. */
  runOut() {
    this.playing = false;
    this.late++;
    this.target = Math.min(this.target + this.samples(20), this.samples(240));
  }

  /** More was held than was needed for two seconds: go closer to the present. */
  settle() {
    const spare = this.lowest - this.samples(40);
    if (this.playing && spare > this.samples(20)) this.drop(spare);
    this.target = Math.max(this.target - this.samples(2), this.samples(60));
    this.lowest = Infinity;
  }

  report() {
    this.port.postMessage({
      heldMs: (1000 * this.held) / sampleRate,
      late: this.late,
      skippedMs: (1000 * this.skipped) / sampleRate,
    });
  }
}

registerProcessor("microphone", Microphone);
registerProcessor("speaker", Speaker);
