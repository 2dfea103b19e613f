// Small things that every part of the page uses.

export const $ = (id) => document.getElementById(id);

export const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1);

/** Minutes and seconds, as people write them: 1:02. */
export const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;

/** A file name with a date and a time of day, local: moshi-2026-01-31-150405.wav. */
export function dated(ending, when = new Date()) {
  const local = new Date(when.getTime() - 60_000 * when.getTimezoneOffset());
  return `moshi-${local.toISOString().slice(0, 19).replace("T", "-").replaceAll(":", "")}${ending}`;
}

/** Gives a file to the browser to save. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** What a refused request says, in the words of the server. */
export async function refusal(answer) {
  const told = await answer.text().catch(() => "");
  try {
    return sentence(JSON.parse(told).error.message);
  } catch {
    return told.trim() || `The server answered ${answer.status}.`;
  }
}
