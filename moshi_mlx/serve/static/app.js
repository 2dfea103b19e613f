// The page: asks what the server offers, and shows a tab for each.

import { $ } from "./dom.js";
import { speaking } from "./speak.js";
import { opened, showTabs } from "./tabs.js";
import { buttonOf, describe } from "./talk.js";
import { transcribing } from "./transcribe.js";

if (new URLSearchParams(location.search).has("token")) {
  history.replaceState(null, "", location.pathname + location.hash); // the cookie has it now
}
document.addEventListener("keydown", (event) => {
  if (opened() !== "talk") return;
  const presses = event.key === " " && event.target.closest("button");
  const busy = $("settings").open || presses || event.target.closest("input, select, textarea");
  if (busy || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const button = buttonOf(event.key);
  if (button && !button.disabled) {
    event.preventDefault();
    button.click();
  }
});

async function start() {
  const tabs = new Map([["talk", () => {}], ["transcribe", () => {}]]);
  const answer = await fetch("api/build_info").catch(() => null);
  const info = answer?.ok ? await answer.json() : { models: { conversations: "" } };
  const models = info.models;
  transcribing();
  tabs.set("speak", speaking());
  const needs = { talk: "conversations", transcribe: "transcription", speak: "speech" };
  for (const [name, need] of Object.entries(needs)) {
    if (!(need in models)) tabs.delete(name);
    else if (name !== "talk") $(`model-${name}`).textContent = models[need];
  }
  if (answer?.ok && tabs.has("talk")) describe(info);
  if (tabs.size) showTabs(tabs);
}

start();
