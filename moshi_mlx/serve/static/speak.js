// The tab that speaks a text: it is heard while it is made.

import { $, clock, dated, refusal, save } from "./dom.js";
import { wav } from "./recording.js";

const RATE = 24000;
const LEAD_S = 0.15; // of sound held before it is played

let under = null; // the speech that is being made: an AbortController
let said = null; // {asked, sound}: what was said last
let began = new Date();

function show(told, failed = false) {
  $("say-status").textContent = told;
  $("say-status").dataset.failed = failed ? "yes" : "";
  $("say").textContent = under ? "Stop" : "Speak";
  $("say-keep").hidden = $("say-again").hidden = under !== null || said === null;
}

const ask = (asked, response_format, signal) =>
  fetch("v1/audio/speech", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...asked, response_format }),
    signal,
  });

async function speak() {
  const text = $("say-text").value.trim();
  if (!text) {
    $("say-text").focus();
    return show("Write what is to be said.", true);
  }
  said = null;
  began = new Date();
  const gone = (under = new AbortController());
  const player = new Player();
  gone.signal.addEventListener("abort", () => player.close());
  // The seed lets the same speech be asked for again, as an MP3.
  const asked = { input: text, seed: Math.floor(Math.random() * 2 ** 31) };
  if ($("say-voice").value) asked.voice = $("say-voice").value;
  $("say-again").pause();
  show("Waiting for the first sound …");
  let told = "";
  try {
    const answer = await ask(asked, "pcm", gone.signal);
    if (!answer.ok) throw new Refused(await refusal(answer));
    for await (const pcm of samples(answer.body)) {
      player.play(pcm);
      show(`Speaking: ${clock(player.seconds)} made.`);
    }
    const sound = new Blob([wav(player.pieces, RATE)], { type: "audio/wav" });
    said = { asked, sound };
    URL.revokeObjectURL($("say-again").src);
    $("say-again").src = URL.createObjectURL(sound);
    await player.ended();
  } catch (error) {
    if (gone.signal.aborted) told = "Stopped.";
    else told = error instanceof Refused ? error.message : "The connection is lost.";
  }
  const failed = told !== "" && !gone.signal.aborted;
  under = null;
  player.close();
  show(told || `${clock(player.seconds)} of speech.`, failed);
}

class Refused extends Error {}

/** Plays pieces one after the other, as they come. */
class Player {
  constructor() {
    this.context = new AudioContext({ sampleRate: RATE });
    this.out = new GainNode(this.context);
    this.out.connect(this.context.destination);
    this.context.resume();
    this.pieces = []; // Int16Arrays
    this.seconds = 0;
    this.until = 0; // of the context's time
  }

  play(pcm) {
    this.pieces.push(pcm);
    this.seconds += pcm.length / RATE;
    const buffer = this.context.createBuffer(1, pcm.length, RATE);
    buffer.copyToChannel(Float32Array.from(pcm, (x) => x / 32768), 0);
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(this.out);
    const now = this.context.currentTime;
    if (this.until < now) this.until = now + LEAD_S;
    source.start(this.until);
    this.until += buffer.duration;
  }

  /** Waits until all of it has been heard. */
  async ended() {
    while (this.context.state === "running" && this.context.currentTime < this.until) {
      await new Promise((done) => setTimeout(done, 50));
    }
  }

  close() {
    if (this.context.state !== "closed") this.context.close();
  }
}

/** A stream of bytes as Int16Arrays, however it is cut. */
async function* samples(body) {
  const reader = body.getReader();
  for (let kept = new Uint8Array(0); ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const bytes = new Uint8Array(kept.length + value.length);
    bytes.set(kept);
    bytes.set(value, kept.length);
    const whole = bytes.length & ~1;
    kept = bytes.slice(whole);
    if (whole) yield new Int16Array(bytes.buffer, 0, whole / 2);
  }
}

async function saveMp3() {
  $("say-mp3").disabled = true;
  show("Making the MP3 …");
  try {
    const answer = await ask(said.asked, "mp3");
    if (!answer.ok) return show(await refusal(answer), true);
    save(await answer.blob(), dated(".mp3", began));
    show("Saved.");
  } catch {
    show("The connection is lost.", true);
  } finally {
    $("say-mp3").disabled = false;
  }
}

/** The server's own voices; names in folders are listed by folder. */
async function listVoices() {
  const answer = await fetch("v1/audio/voices").catch(() => null);
  if (!answer?.ok) return answer ? show(await refusal(answer), true) : null;
  const groups = new Map();
  for (const { id, alias } of (await answer.json()).voices) {
    if (alias) continue;
    const folder = id.includes("/") ? id.slice(0, id.lastIndexOf("/")) : "";
    const name = id.slice(folder ? folder.length + 1 : 0).replace(/\.(wav|safetensors)$/, "");
    groups.set(folder, [...(groups.get(folder) ?? []), new Option(name, id)]);
  }
  for (const [label, options] of groups) {
    const group = Object.assign(document.createElement("optgroup"), { label });
    group.append(...options);
    $("say-voice").append(...(label ? [group] : options));
  }
}

/** Makes the tab work; the voices are asked for when it is first shown. */
export function speaking() {
  let listed = false;
  $("say").onclick = () => (under ? under.abort() : speak());
  $("say-wav").onclick = () => save(said.sound, dated(".wav", began));
  $("say-mp3").onclick = saveMp3;
  return () => {
    if (!listed) listVoices();
    listed = true;
  };
}
