// The conversation: one button, what is said, and what goes wrong in clear words.

import { $, clock, dated, save, sentence } from "./dom.js";
import { Ears } from "./ears.js";
import { Orbs } from "./orbs.js";
import { Picture } from "./picture.js";
import { Recording } from "./recording.js";
import { chosenDevices, openableSettings, showDefaults, wishes } from "./settings.js";
import { level, listDevices, openSound, pageTrouble, soundTrouble } from "./sound.js";
import { Transcript } from "./transcript.js";
import { connect } from "./wire.js";

const RETRIES_S = [0.5, 1, 2, 4, 8, 8, 8, 8];
const SHUTDOWN = 1012;
const SUGGESTIONS = ["Tell me a joke.", "What is the biggest planet?", "How are you?"];
const orbs = new Orbs($("orbs"));
const recording = new Recording();
const transcript = new Transcript($("transcript"));
const PICTURE_START = "16"; // steps: what MoshiVis is tuned to

let state = "idle"; // idle, joining, waiting, talking, failed
let wire = null;
let sound = null;
let muted = false;
let retries = 0;
let retryTimer = 0;
let lastWords = ""; // the server's, before it closed
let fresh = false; // the last conversation is kept until the next one begins
let since = 0; // when the conversation began
let figures = {};
let playback = { heldMs: 0, late: 0 };
let sentAt = []; // when each frame left
let answered = 0; // frames that have come back
let forgotten = 0; // frames dropped before the conversation at hand
let beginning = false; // a restart was asked for: what comes still belongs to the past
let hears = false; // whether the server writes what the user says
let ears = null;
let heardFrom = 0; // when they began to listen
let wished = ""; // what the connection was asked for
let devices = ""; // those in use
let picture = null; // where the model sees

function show(next, words) {
  state = next;
  document.body.dataset.state = next;
  $("status").textContent = words;
  const on = next !== "idle" && next !== "failed";
  $("talk").textContent = on ? "Stop" : "Start";
  $("mute").disabled = $("restart").disabled = next !== "talking";
  $("keep").hidden = recording.seconds === 0;
  $("suggestions").hidden = !transcript.empty || next === "failed";
}

function openDevices() {
  devices = chosenDevices();
  return openSound({
    input: $("input-device").value,
    output: $("output-device").value,
    onFrame,
    volume: Number($("volume").value),
    onPlayback: (heard) => (playback = heard),
    onLost: () => stop("failed", "The microphone is gone. Plug it in again, then press Start."),
  });
}

/** Other devices were chosen while talking: the conversation goes on with them. */
async function switchDevices() {
  if (!sound || devices === chosenDevices()) return;
  const old = sound;
  try {
    sound = await openDevices();
    await old.close();
  } catch (error) {
    stop("failed", soundTrouble(error));
  }
}

async function start() {
  const trouble = pageTrouble();
  if (trouble) return show("failed", trouble);
  fresh = true;
  show("joining", "Waiting for access to the microphone …");
  try {
    sound = await openDevices();
  } catch (error) {
    return stop("failed", soundTrouble(error));
  }
  if (state !== "joining") return sound?.close(); // stopped meanwhile
  retries = 0;
  listDevices($("input-device"), $("output-device"));
  join("Connecting …");
}

function forget() {
  fresh = false;
  recording.clear();
  transcript.clear();
}

function join(words) {
  show("joining", words);
  lastWords = "";
  sentAt = [];
  answered = forgotten = 0;
  beginning = false;
  figures = {};
  wished = JSON.stringify(wanted());
  wire = connect(wanted(), {
    ready() {
      retries = 0;
      since = performance.now();
      if (fresh) forget();
      listen();
      show("talking", "Moshi is listening.");
      setMuted(muted);
    },
    sound: onSound,
    text: onText,
    about: (about) => {
      $("model").textContent = `${about.lm_model_file} · seed ${about.seed}`;
      $("settings-model").textContent = about.lm_model_file;
    },
    queue: (place) => show("waiting", `Moshi is busy. You are number ${place} in the queue.`),
    stats: (stats) => (figures = stats),
    restarted: () => {
      beginning = false;
      forgotten = droppedFrames();
    },
    pictured: (said) => picture?.answer(said),
    failed: (text) => (lastWords = text),
    closed: onClosed,
  }, picture?.bytes);
}

/** Query parameters of the conversation. */
function wanted() {
  return picture?.bytes ? { ...wishes(), xa_start: PICTURE_START } : wishes();
}

/** Has the user's words written, where the server can. */
function listen() {
  if (!hears) return;
  heardFrom = recording.elapsed;
  if (ears && !ears.gone) return ears.restart();
  ears = new Ears({
    word(word, at) {
      transcript.user(word, heardFrom + at);
      $("suggestions").hidden = true;
    },
    ended: (at) => transcript.userEnded(heardFrom + at),
    failed: (words) => note(`What you say is not written: ${words}.`),
  });
}

function onFrame(pcm) {
  if (muted) pcm.fill(0);
  orbs.set("you", muted || state !== "talking" ? 0 : level(pcm));
  if (state !== "talking") return;
  if (wire.sound(pcm)) sentAt.push(performance.now());
  recording.user(pcm);
  ears?.put(pcm);
  if (sentAt.length > 4000) {
    sentAt.splice(0, 2000);
    answered -= 2000;
  }
}

/** When the conversation began, as a date. */
const began = () => new Date(Date.now() - (performance.now() - since));

const droppedFrames = () => (figures.dropped_silent || 0) + (figures.dropped_spoken || 0);

function onSound(pcm) {
  if (beginning) return;
  const index = answered + droppedFrames() - forgotten;
  answered++;
  if (sentAt[index]) figures.roundTrip = performance.now() - sentAt[index];
  orbs.set("moshi", level(pcm));
  recording.moshi(pcm);
  sound.play(pcm);
}

function onText(text, colour) {
  if (beginning) return;
  transcript.moshi(text, recording.elapsed, colour);
  $("suggestions").hidden = true;
}

const note = (words) => transcript.note(words, recording.elapsed);

function onClosed(code, reached) {
  sound?.forget();
  const refused = lastWords && code !== SHUTDOWN && code !== 1013;
  if (refused || retries >= RETRIES_S.length) {
    const words = lastWords || "The server cannot be reached. Is it running?";
    return stop("failed", sentence(words));
  }
  const seconds = RETRIES_S[retries++];
  const gone = reached ? "The connection is lost" : "The server does not answer";
  const why = lastWords && code === 1013 ? sentence(lastWords) : `${gone}.`;
  show("joining", `${why} Trying again …`);
  retryTimer = setTimeout(() => join("Reconnecting …"), 1000 * seconds);
}

function stop(next = "idle", words = "The conversation has ended.") {
  clearTimeout(retryTimer);
  wire?.close();
  sound?.close();
  wire = sound = null;
  ears?.finish(); // the last words come a little later
  orbs.set("you", 0);
  orbs.set("moshi", 0);
  show(next, words);
}

function setMuted(on) {
  muted = on;
  $("mute").setAttribute("aria-pressed", String(on));
  $("mute").querySelector("span").textContent = on ? "Muted" : "Mute";
  if (state === "talking") {
    $("status").textContent = on ? "Your microphone is muted." : "Moshi is listening.";
  }
}

function restart() {
  sound?.forget();
  sentAt = [];
  answered = 0;
  since = performance.now();
  note("A new conversation");
  if (JSON.stringify(wanted()) === wished) {
    beginning = true;
    wire?.restart();
    listen();
  } else {
    wire?.close(); // settings belong to a connection
    join("Starting over …");
  }
}

function showFigures() {
  if (state !== "talking") return;
  const seconds = Math.floor((performance.now() - since) / 1000);
  const dropped = droppedFrames();
  const latency = (figures.roundTrip || 0) + playback.heldMs + (sound?.outputMs() || 0);
  $("time").textContent = clock(seconds);
  $("latency").textContent = answered ? `${Math.round(latency)} ms` : "–";
  $("lag").textContent = figures.lag_ms === undefined ? "–" : `${Math.round(figures.lag_ms)} ms`;
  $("dropped").textContent = `${dropped + (figures.unsent || 0)}`;
}

/** Shows what the server's Moshi can do. */
export function describe(info) {
  $("model").textContent = info.model;
  showDefaults(info);
  if (info.models?.transcription && !hears) {
    hears = true;
    transcript.nameSpeakers();
  }
  if (info.sees && !picture) takePictures();
}

function takePictures() {
  const part = (name) => $(`picture-${name}`);
  const names = ["canvas", "file", "choose", "remove", "words"];
  const parts = Object.fromEntries(names.map((name) => [name, part(name)]));
  picture = new Picture({ area: $("picture"), ...parts }, () => {
    if (state === "talking" && picture.bytes) wire?.show(picture.bytes);
  });
}

$("talk").onclick = () => (state === "idle" || state === "failed" ? start() : stop());
$("mute").onclick = () => setMuted(!muted);
$("restart").onclick = restart;
openableSettings((volume) => sound?.setVolume(volume), switchDevices);
$("save-audio").onclick = () => save(recording.wav(), dated(".wav", began()));
$("save-text").onclick = () => save(transcript.asText(), dated(".txt", began()));
$("suggestions").querySelector("span").textContent = SUGGESTIONS.map((s) => `“${s}”`).join(" · ");

/** What a key does while the conversation is shown; null for nothing. */
export function buttonOf(key) {
  const keys = { " ": $("talk"), m: $("mute"), r: $("restart") };
  return keys[key.toLowerCase()];
}

setInterval(showFigures, 250);
if (pageTrouble()) show("failed", pageTrouble());
else $("suggestions").hidden = false;
