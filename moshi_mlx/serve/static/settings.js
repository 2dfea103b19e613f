// What can be set: devices, volume, sampling, persona, seed.

import { $ } from "./dom.js";
import { listDevices } from "./sound.js";

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

/** Query parameters of a conversation with what was chosen. */
export function wishes() {
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
  return wanted;
}

export const chosenDevices = () => `${$("input-device").value} ${$("output-device").value}`;

/** Shows what the server does where nothing is chosen. */
export function showDefaults(info) {
  $("settings-model").textContent = info.model;
  for (const [name, id] of Object.entries(SLIDERS)) {
    if (!$(id).dataset.chosen) $(id).value = info.defaults?.[name] ?? $(id).min;
    showValue(id);
  }
  if (info.adapters?.length) offerAdapters(info.adapters);
  if (info.persona) offerPersonas(info.persona);
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

const showValue = (id) => ($(`${id}-value`).textContent = $(id).value);

/**
 * @param {(volume: number) => void} onVolume called while the slider moves.
 * @param {() => void} onClose called when the settings are closed.
 */
export function openableSettings(onVolume, onClose) {
  $("open-settings").onclick = () => {
    listDevices($("input-device"), $("output-device"));
    $("settings").showModal();
  };
  $("settings").onclose = onClose;
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
  $("volume").addEventListener("input", () => onVolume(Number($("volume").value)));
}
