// The page: one button, what Moshi says, and what goes wrong in clear words.

import { Orbs } from "./orbs.js";
import { Picture } from "./picture.js";
import { Recording, save } from "./recording.js";
import { level, listDevices, openSound, pageTrouble, soundTrouble } from "./sound.js";
import { connect } from "./wire.js";

const $ = (id) => document.getElementById(id);
const RETRIES_S = [0.5, 1, 2, 4, 8, 8, 8, 8];
const SHUTDOWN = 1012;
// Sliders, by the name that the server knows in the address and in its defaults.
const SLIDERS = {
  text_temperature: "text-temperature",
  audio_temperature: "audio-temperature",
  text_topk: "text-topk",
  audio_topk: "audio-topk",
  repetition_penalty: "repetition",
};
const PERSONAS = {
  "Patient teacher":
    "You are a patient teacher. You explain one thing at a time, with examples from daily life, and ask whether it was clear.",
  "Language partner":
    "You help people to practise English. You speak slowly, keep sentences short, and gently repeat what was wrong in the right form.",
  "Bookshop":
    "You work in a small bookshop called Lantern Books, open from nine to six, closed on Mondays. You recommend books and take orders by name.",
  "Interviewer":
    "You are preparing somebody for a job interview. You ask one question at a time, listen to the end, and say what was good and what could be better.",
  "Night-time storyteller":
    "You tell calm stories for falling asleep. You ask for a place and an animal, then tell a slow story with them.",
};
const SUGGESTIONS = ["Tell me a joke.", "What is the biggest planet?", "How are you?"];
const orbs = new Orbs($("orbs"));
const recording = new Recording();
const LOOKED = 5; // of 10: words that were said with an eye on the picture
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
let line = null; // paragraph that grows
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
  $("suggestions").hidden = $("transcript").childElementCount > 0 || next === "failed";
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

const chosenDevices = () => `${$("input-device").value} ${$("output-device").value}`;

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
  show("joining", "Asking for the microphone …");
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
  $("transcript").replaceChildren();
  line = null;
}

function join(words) {
  show("joining", words);
  lastWords = "";
  sentAt = [];
  answered = forgotten = 0;
  beginning = false;
  figures = {};
  wished = JSON.stringify(wishes());
  wire = connect(wishes(), {
    ready() {
      retries = 0;
      since = performance.now();
      if (fresh) forget();
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

function wishes() {
  const wanted = {};
  for (const [name, id] of Object.entries(SLIDERS)) {
    if ($(id).dataset.chosen) wanted[name] = $(id).value;
  }
  if ($("adapter").value) wanted.adapter = $("adapter").value;
  if (!$("persona").hidden) {
    wanted.text_prompt = $("persona-text").value;
    if ($("persona-voice").value) wanted.voice_prompt = $("persona-voice").value;
  }
  if ($("seed").value && $("seed").checkValidity()) wanted.seed = $("seed").value;
  if (picture?.bytes) wanted.xa_start = PICTURE_START;
  return wanted;
}

function onFrame(pcm) {
  if (muted) pcm.fill(0);
  orbs.set("you", muted || state !== "talking" ? 0 : level(pcm));
  if (state !== "talking") return;
  if (wire.sound(pcm)) sentAt.push(performance.now());
  recording.user(pcm);
  if (sentAt.length > 4000) {
    sentAt.splice(0, 2000);
    answered -= 2000;
  }
}

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
  recording.text(text);
  if (!line) {
    line = document.createElement("p");
    $("transcript").append(line);
    $("suggestions").hidden = true;
  }
  const words = document.createElement("span");
  words.textContent = line.textContent ? text : text.trimStart();
  if (colour >= LOOKED) words.className = "looked";
  line.append(words);
  if (/[.!?]$/.test(text)) line = null;
  $("transcript").scrollTop = $("transcript").scrollHeight;
}

function note(words) {
  line = null;
  const paragraph = document.createElement("p");
  paragraph.className = "note";
  paragraph.textContent = words;
  $("transcript").append(paragraph);
  $("transcript").scrollTop = $("transcript").scrollHeight;
}

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
  retryTimer = setTimeout(() => join("Connecting again …"), 1000 * seconds);
}

const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1);

function stop(next = "idle", words = "The conversation has ended.") {
  clearTimeout(retryTimer);
  wire?.close();
  sound?.close();
  wire = sound = null;
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
  if (JSON.stringify(wishes()) === wished) {
    beginning = true;
    wire?.restart();
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
  $("time").textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  $("latency").textContent = answered ? `${Math.round(latency)} ms` : "–";
  $("lag").textContent = figures.lag_ms === undefined ? "–" : `${Math.round(figures.lag_ms)} ms`;
  $("dropped").textContent = `${dropped + (figures.unsent || 0)}`;
}

async function describeServer() {
  const answer = await fetch("api/build_info").catch(() => null);
  if (!answer?.ok) return;
  const info = await answer.json();
  $("model").textContent = $("settings-model").textContent = info.model;
  for (const [name, id] of Object.entries(SLIDERS)) {
    if (!$(id).dataset.chosen) $(id).value = info.defaults?.[name] ?? $(id).min;
    showValue(id);
  }
  if (info.adapters?.length) offerAdapters(info.adapters);
  if (info.persona) offerPersonas(info.persona);
  if (info.sees && !picture) takePictures();
}

/** Adapters of the model, of which a conversation may choose one. */
function offerAdapters(names) {
  const chosen = $("adapter").value;
  $("adapter").length = 1; // the first one is none
  $("adapter").append(...names.map((name) => new Option(name)));
  $("adapter").value = names.includes(chosen) ? chosen : "";
  $("adapter-label").hidden = false;
}

/** Presets of ours and the server's voices, where the model takes a persona. */
function offerPersonas({ text, voices }) {
  if ($("persona").hidden) {
    $("preset").append(...Object.keys(PERSONAS).map((name) => new Option(name)));
    $("persona-voice").append(...voices.map((name) => new Option(name)));
    $("persona-text").value = text;
  }
  $("persona").hidden = false;
}

function takePictures() {
  const part = (name) => $(`picture-${name}`);
  const names = ["canvas", "file", "choose", "remove", "words"];
  const parts = Object.fromEntries(names.map((name) => [name, part(name)]));
  picture = new Picture({ area: $("picture"), ...parts }, () => {
    if (state === "talking" && picture.bytes) wire?.show(picture.bytes);
  });
}

const showValue = (id) => ($(`${id}-value`).textContent = $(id).value);

/** A file name with the date and time at which the conversation began, local time. */
function dated(ending) {
  const began = new Date(Date.now() - (performance.now() - since));
  const local = new Date(began.getTime() - 60_000 * began.getTimezoneOffset());
  return `moshi-${local.toISOString().slice(0, 19).replace("T", "-").replaceAll(":", "")}${ending}`;
}

$("talk").onclick = () => (state === "idle" || state === "failed" ? start() : stop());
$("mute").onclick = () => setMuted(!muted);
$("restart").onclick = restart;
$("open-settings").onclick = () => {
  listDevices($("input-device"), $("output-device"));
  $("settings").showModal();
};
$("settings").onclose = switchDevices;
$("save-audio").onclick = () => save(recording.wav(), dated(".wav"));
$("save-text").onclick = () => save(recording.transcript(), dated(".txt"));
$("preset").onchange = () => ($("persona-text").value = PERSONAS[$("preset").value] ?? "");
$("output-label").hidden = !("setSinkId" in AudioContext.prototype);
for (const id of [...Object.values(SLIDERS), "volume"]) {
  $(id).addEventListener("input", () => {
    $(id).dataset.chosen = "yes";
    showValue(id);
  });
}
$("volume").value = 1;
showValue("volume");
$("volume").addEventListener("input", () => sound?.setVolume(Number($("volume").value)));
$("suggestions").querySelector("span").textContent = SUGGESTIONS.map((s) => `“${s}”`).join(" · ");
document.addEventListener("keydown", (event) => {
  const presses = event.key === " " && event.target.closest("button");
  const busy = $("settings").open || presses || event.target.closest("input, select, textarea");
  if (busy || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const keys = { " ": $("talk"), m: $("mute"), r: $("restart") };
  const button = keys[event.key.toLowerCase()];
  if (button && !button.disabled) {
    event.preventDefault();
    button.click();
  }
});
if (new URLSearchParams(location.search).has("token")) {
  history.replaceState(null, "", location.pathname); // the cookie has it now
}
setInterval(showFigures, 250);
if (pageTrouble()) show("failed", pageTrouble());
else $("suggestions").hidden = false;
describeServer();
