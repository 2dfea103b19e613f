// Words with their times as files: text, subtitles, JSON.
// The rules are those of `moshi-mlx transcribe` (documents/transcript.py).

const WIDTH = 42; // characters in a line
const LINES = 2; // of a subtitle
const PAUSE_S = 1; // of silence begin a new subtitle
const LONGEST_S = 7; // a subtitle shows no longer
const HOLD_S = 1; // a subtitle stays after its last word, if nothing follows

/** The forms of a list of {text, start_s, end_s}. */
export const FORMS = {
  txt: { type: "text/plain", write: (words) => `${joined(words)}\n` },
  srt: { type: "application/x-subrip", write: srt },
  vtt: { type: "text/vtt", write: vtt },
  json: { type: "application/json", write: (words) => `${JSON.stringify(words, null, 1)}\n` },
};

const joined = (words) => words.map((word) => word.text).join(" ");

/** Text in lines of at most `width` characters, no word torn. */
function wrapped(text, width) {
  const lines = [];
  for (const word of text.split(/\s+/).filter(Boolean)) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && longer.length <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

const fits = (text) =>
  text.length <= WIDTH || (text.length <= WIDTH * LINES && wrapped(text, WIDTH).length <= LINES);

/** In as few lines as it needs, of like length. */
function folded(text) {
  const least = Math.min(wrapped(text, WIDTH).length, LINES);
  for (let width = Math.floor(text.length / Math.max(least, 1)) || 1; width < WIDTH; width++) {
    const lines = wrapped(text, width);
    if (lines.length <= least) return lines.join("\n");
  }
  return wrapped(text, WIDTH).join("\n");
}

/** Subtitles: broken at sentences, pauses and by length. */
function cues(words) {
  const found = [];
  for (const word of words) {
    const last = found.at(-1);
    const ended =
      !last ||
      !fits(` ${last.text} ${word.text}`) ||
      word.start_s - last.end_s >= PAUSE_S ||
      word.end_s - last.start_s > LONGEST_S ||
      /[.?!…]$/.test(last.text);
    if (ended) found.push({ ...word });
    else Object.assign(last, { text: `${last.text} ${word.text}`, end_s: Math.max(last.end_s, word.end_s) });
  }
  return found.map((cue, i) => {
    const next = found[i + 1]?.start_s ?? Infinity;
    return { ...cue, end_s: Math.max(cue.start_s, Math.min(cue.end_s + HOLD_S, next)) };
  });
}

function time(seconds, separator) {
  const total = Math.round(1000 * seconds);
  const padded = (value, size) => String(value).padStart(size, "0");
  const [h, m, s] = [3_600_000, 60_000, 1000].map((unit) => Math.floor(total / unit));
  return `${padded(h, 2)}:${padded(m % 60, 2)}:${padded(s % 60, 2)}${separator}${padded(total % 1000, 3)}`;
}

function srt(words) {
  const block = (cue, i) => {
    const text = folded(cue.text.replaceAll("-->", "->"));
    return `${i + 1}\n${time(cue.start_s, ",")} --> ${time(cue.end_s, ",")}\n${text}\n\n`;
  };
  return cues(words).map(block).join("");
}

function vtt(words) {
  const block = (cue) => {
    const text = folded(cue.text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
    const times = `${time(cue.start_s, ".")} --> ${time(cue.end_s, ".")}`;
    return `${times}\n${text.replaceAll("-->", "--&gt;")}\n\n`;
  };
  return `WEBVTT\n\n${cues(words).map(block).join("")}`;
}
