// OpenAI's JavaScript client: it speaks, transcribes a file, and talks over Realtime.
//   node openai_npm.mjs URL FOLDER        (Realtime only if URL is https)
import fs from "node:fs";
import path from "node:path";
import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import { OpenAIRealtimeWebSocket } from "openai/realtime/websocket";
import { microphone } from "./microphone.mjs";

const [url, folder] = process.argv.slice(2);
const at = (name) => path.join(folder, name);
const text = fs.readFileSync(at("text.txt"), "utf8");
const client = new OpenAI({
  baseURL: `${url}/v1`,
  apiKey: "none",
  maxRetries: 0,
  dangerouslyAllowBrowser: true,
});
const report = {};

report.models = (await client.models.list()).data.map((model) => model.id);

for (const format of ["wav", "mp3", "opus", "flac"]) {
  const spoken = await client.audio.speech.create({
    model: "tts-1",
    voice: "alloy",
    input: text,
    response_format: format,
  });
  fs.writeFileSync(at(`said.${format}`), Buffer.from(await spoken.arrayBuffer()));
}

const file = () => fs.createReadStream(at("sound.wav"));
const verbose = await client.audio.transcriptions.create({
  file: file(),
  model: "whisper-1",
  response_format: "verbose_json",
  timestamp_granularities: ["word"],
});
report.file = verbose.text;
report.words = verbose.words.map((word) => word.word);
const events = await client.audio.transcriptions.create({
  file: file(),
  model: "gpt-4o-transcribe",
  stream: true,
});
for await (const event of events) {
  if (event.type === "transcript.text.done") report.streamed = event.text;
}

function talk(socket, { update, until }) {
  const told = { kinds: {}, user: "", answers: [], errors: [] };
  const audio = [];
  return new Promise((done, fail) => {
    let over = false;
    const finish = () => {
      if (over) return;
      over = true;
      socket.close();
      done({ ...told, audio: Buffer.concat(audio) });
    };
    socket.on("error", (error) => {
      told.errors.push(error.message);
      fail(error);
    });
    socket.on("event", (event) => {
      told.kinds[event.type] = (told.kinds[event.type] ?? 0) + 1;
      if (event.type === "session.created") socket.send(update);
      if (event.type === "session.updated") {
        const append = (data) =>
          socket.send({
            type: "input_audio_buffer.append",
            audio: data.toString("base64"),
          });
        microphone(at("sound.wav"), append, () => over).then(finish, fail);
      }
      if (event.type === "response.output_audio.delta")
        audio.push(Buffer.from(event.delta, "base64"));
      if (event.type.endsWith("input_audio_transcription.completed"))
        told.user += event.transcript;
      if (event.type === "response.output_audio_transcript.done")
        told.answers.push(event.transcript);
      if (event.type === until) setTimeout(finish, 200);
    });
  });
}

if (url.startsWith("https")) {
  const transcription = await talk(
    new OpenAIRealtimeWS({ transcription: true, intent: "transcription" }, client),
    {
      update: {
        type: "session.update",
        session: {
          type: "transcription",
          audio: { input: { turn_detection: { type: "server_vad" } } },
        },
      },
      until: "conversation.item.input_audio_transcription.completed",
    },
  );
  report.realtime = transcription.user;
  const conversation = await talk(
    new OpenAIRealtimeWebSocket(
      { model: "moshi", dangerouslyAllowBrowser: true },
      client,
    ),
    {
      update: {
        type: "session.update",
        session: { type: "realtime", instructions: "Be kind." },
      },
      until: "response.done",
    },
  );
  fs.writeFileSync(at("answer.pcm"), conversation.audio);
  report.answers = conversation.answers;
  report.kinds = conversation.kinds;
}
console.log(JSON.stringify(report));
