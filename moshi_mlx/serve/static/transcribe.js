// The tab that writes what a file or the microphone says.

import { $, clock, dated, refusal, save, sentence } from "./dom.js";
import { Ears } from "./ears.js";
import { listDevices, openSound, pageTrouble, soundTrouble } from "./sound.js";
import { FORMS } from "./subtitles.js";

const PAUSE_S = 1.5; // of silence begin a new paragraph

let words = []; // {text, start_s, end_s}
let stopping = null; // ends what is under way
let line = null; // paragraph that grows
let name = ""; // of the file

function show(told, busy = false) {
  $("hear-status").textContent = told;
  $("hear-status").dataset.failed = "";
  $("hear-mic").textContent = busy ? "Stop" : "Use the microphone";
  $("hear-choose").disabled = busy;
  $("hear-keep").hidden = busy || words.length === 0;
}

function fail(told) {
  show(told);
  $("hear-status").dataset.failed = "yes";
}

function begin(told) {
  words = [];
  line = null;
  $("heard").replaceChildren();
  show(told, true);
}

/** Shows a piece of text; a word begins with a space. */
function write(text, fresh = false) {
  if (!line || fresh) {
    line = document.createElement("p");
    $("heard").append(line);
  }
  const piece = document.createElement("span");
  piece.textContent = line.textContent ? text : text.trimStart();
  line.append(piece);
  $("heard").scrollTop = $("heard").scrollHeight;
}

function hearWord(text, start_s) {
  const last = words.at(-1);
  write(` ${text}`, last && start_s - last.end_s > PAUSE_S);
  words.push({ text, start_s, end_s: start_s });
}

const done = () => show(words.length ? `${words.length} words.` : "No words were heard.");

async function useMicrophone() {
  const trouble = pageTrouble();
  if (trouble) return fail(trouble);
  begin("Waiting for access to the microphone …");
  name = dated("");
  let sound = null;
  let ears = null;
  let failed = "";
  let stopped = false;
  let frames = 0;
  stopping = () => {
    stopped = true;
    sound?.close();
    show("Writing the last words …", true);
    ears?.finish();
  };
  try {
    sound = await openSound({
      input: $("hear-device").value,
      volume: 0,
      onFrame(pcm) {
        if (stopped) return;
        ears?.put(pcm);
        if (ears?.ready && ++frames % 6 === 0) show(`Listening: ${clock(frames * 0.08)}`, true);
      },
      onPlayback() {},
      onLost: () => stopping?.(),
    });
  } catch (error) {
    stopping = null;
    return fail(soundTrouble(error));
  }
  listDevices($("hear-device"));
  if (stopped) {
    stopping = null;
    sound.close();
    return show("");
  }
  show("Waiting for the model …", true);
  ears = new Ears({
    word: hearWord,
    ended: (end_s) => words.length && (words.at(-1).end_s = end_s),
    failed: (told) => (failed = `${sentence(told)}.`),
    closed() {
      stopping = null;
      sound.close();
      if (failed || stopped) return failed ? fail(failed) : done();
      fail("The connection is lost. The transcript so far is kept.");
    },
  });
}

async function useFile(file) {
  if (!file || stopping) return;
  begin(`Transcribing ${file.name} …`);
  name = file.name.replace(/\.[^.]*$/, "") || "transcript";
  const gone = new AbortController();
  stopping = () => gone.abort();
  const form = new FormData();
  form.append("file", file);
  form.append("stream", "true");
  form.append("timestamp_granularities[]", "word");
  try {
    const address = "v1/audio/transcriptions";
    const answer = await fetch(address, { method: "POST", body: form, signal: gone.signal });
    if (!answer.ok) return fail(await refusal(answer));
    for await (const event of events(answer.body)) {
      if (event.error) return fail(sentence(event.error.message));
      if (event.type === "transcript.text.delta") write(event.delta);
      if (event.type === "transcript.text.done") finishFile(event.words);
    }
    done();
  } catch {
    if (gone.signal.aborted) show("Stopped.");
    else fail("The connection is lost.");
  } finally {
    stopping = null;
  }
}

/** All words of a file, with their times: what was written as it came gets paragraphs. */
function finishFile(found) {
  $("heard").replaceChildren();
  line = null;
  for (const { word, start, end } of found) {
    hearWord(word, start);
    words.at(-1).end_s = end;
  }
}

/** The objects of a stream of server-sent events. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let kept = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (kept + value).split("\n");
    kept = lines.pop();
    for (const data of lines) if (data.startsWith("data: {")) yield JSON.parse(data.slice(6));
  }
}

/** Makes the tab work. */
export function transcribing() {
  $("hear-mic").onclick = () => (stopping ? stopping() : useMicrophone());
  $("hear-choose").onclick = () => $("hear-file").click();
  $("hear-file").onchange = () => {
    useFile($("hear-file").files[0]);
    $("hear-file").value = ""; // so that the same file may be chosen again
  };
  const panel = $("panel-transcribe");
  panel.addEventListener("dragover", (event) => {
    event.preventDefault();
    event.stopPropagation(); // a picture's place is elsewhere
    panel.dataset.over = "yes";
  });
  panel.addEventListener("dragleave", () => delete panel.dataset.over);
  panel.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    delete panel.dataset.over;
    useFile(event.dataTransfer.files[0]);
  });
  for (const button of $("hear-keep").querySelectorAll("[data-form]")) {
    const { type, write } = FORMS[button.dataset.form];
    button.onclick = () => {
      save(new Blob([write(words)], { type }), `${name}.${button.dataset.form}`);
    };
  }
}
