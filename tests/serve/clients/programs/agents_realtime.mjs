// OpenAI's agents for JavaScript: speech to speech with Moshi.
//   node agents_realtime.mjs URL FOLDER
import fs from "node:fs";
import path from "node:path";
import {
  OpenAIRealtimeWebSocket,
  RealtimeAgent,
  RealtimeSession,
} from "@openai/agents-realtime";
import { microphone } from "./microphone.mjs";

const [url, folder] = process.argv.slice(2);
const at = (name) => path.join(folder, name);

const agent = new RealtimeAgent({ name: "Moshi", instructions: "Be kind." });
const session = new RealtimeSession(agent, {
  transport: new OpenAIRealtimeWebSocket({
    url: `${url.replace("http", "ws")}/v1/realtime?model=moshi`,
    useInsecureApiKey: true,
  }),
});
const audio = [];
const errors = [];
let interruptions = 0;
session.on("audio", (event) => audio.push(Buffer.from(event.data)));
session.on("audio_interrupted", () => (interruptions += 1));
session.on("error", (event) => errors.push(JSON.stringify(event)));
const ends = [];
session.on("agent_end", (_context, _agent, output) => ends.push(output));

await session.connect({ apiKey: "none" });
const append = (piece) => session.sendAudio(new Uint8Array(piece).buffer);
let finished = Infinity;
session.on("agent_end", () => (finished = performance.now() + 1000));
await microphone(at("sound.wav"), append, () => performance.now() > finished);
const history = session.history.map((item) => ({
  role: item.role,
  status: item.status,
  said: (item.content ?? []).map((part) => part.transcript).join(" "),
}));
session.close();
fs.writeFileSync(at("answer.pcm"), Buffer.concat(audio));
console.log(JSON.stringify({ history, ends, errors, interruptions }));
