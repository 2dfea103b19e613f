// What is said in a conversation: Moshi's words, and the user's where the server hears them.

import { clock } from "./dom.js";

const PAUSE_S = 2; // of silence begin a new line
const LOOKED = 5; // of 10: words that were said with an eye on the picture
const NAMES = { you: "You", moshi: "Moshi" };

export class Transcript {
  /** @param {HTMLElement} log where the lines are shown. */
  constructor(log) {
    this.log = log;
    this.named = false; // whether lines say whose they are
    this.clear();
  }

  clear() {
    this.lines = []; // {who, at, until, text, shown}, in the order of their beginnings
    this.log.replaceChildren();
  }

  get empty() {
    return this.lines.length === 0;
  }

  /** Both sides are written from now on. */
  nameSpeakers() {
    this.named = true;
    this.log.setAttribute("aria-label", "What you and Moshi say");
    this.log.dataset.empty = "What you and Moshi say appears here.";
  }

  /**
   * A piece of Moshi's text; a word begins with a space.
   * @param {number} at seconds from the beginning.
   * @param {number} colour how much Moshi looked at the picture, 0 to 10.
   */
  moshi(text, at, colour = 0) {
    let line = this.lines.findLast((l) => l.who !== "you");
    const ended = !line || line.who !== "moshi" || /[.!?]\s*$/.test(line.text);
    if (ended || at - line.until > PAUSE_S) line = this.begin("moshi", at);
    this.write(line, text, at, colour >= LOOKED ? "looked" : "");
  }

  /** A whole word of the user's, which may be known some seconds after it was said. */
  user(word, at) {
    let line = this.lines.findLast((l) => l.who !== "moshi");
    const between = (l) => l.who === "moshi" && l.at > line.until && l.at < at;
    const ended = !line || line.who !== "you" || at - line.until > PAUSE_S;
    if (ended || this.lines.some(between)) line = this.begin("you", at);
    this.write(line, ` ${word}`, at);
  }

  /** When the user's last word ended. */
  userEnded(at) {
    const line = this.lines.findLast((l) => l.who === "you");
    if (line) line.until = Math.max(line.until, at);
  }

  /** Something that nobody said. */
  note(words, at) {
    this.begin("note", at).shown.textContent = words;
    this.lines.at(-1).text = words;
    this.scroll();
  }

  begin(who, at) {
    const shown = document.createElement("p");
    shown.className = who;
    if (this.named && NAMES[who]) {
      const name = document.createElement("b");
      name.textContent = NAMES[who];
      shown.append(name, " ");
    }
    const line = { who, at, until: at, text: "", shown };
    const from = this.lines.findLastIndex((l) => l.who === "note") + 1; // a note is a border
    const later = who === "you" ? this.lines.findIndex((l, i) => i >= from && l.at > at) : -1;
    const place = later < 0 ? this.lines.length : later;
    this.log.insertBefore(shown, this.lines[place]?.shown ?? null);
    this.lines.splice(place, 0, line);
    return line;
  }

  write(line, text, at, look = "") {
    const words = document.createElement("span");
    words.textContent = line.text ? text : text.trimStart();
    if (look) words.className = look;
    line.shown.append(words);
    line.text += words.textContent;
    line.until = Math.max(line.until, at);
    this.scroll();
  }

  scroll() {
    this.log.scrollTop = this.log.scrollHeight;
  }

  /** All lines with the time of their first word. */
  asText() {
    const both = this.lines.some((line) => line.who === "you");
    const written = ({ who, at, text }) => {
      if (who === "note") return `[${clock(at)}] [${text.toLowerCase()}]\n`;
      return `[${clock(at)}] ${both ? `${NAMES[who]}: ` : ""}${text.trim()}\n`;
    };
    return new Blob(this.lines.map(written), { type: "text/plain" });
  }
}
