// Microphone and loudspeaker of the browser.

/** What went wrong with the devices, in words that help. */
export function soundTrouble(error) {
  switch (error.name) {
    case "ServerGone":
      return "The server cannot be reached. Start it again, then press Start.";
    case "NotAllowedError":
      return "The microphone is blocked. Allow it for this page in the browser's address bar (and in the system's privacy settings), then press Start again.";
    case "NotFoundError":
    case "OverconstrainedError":
      return "No microphone was found. Plug one in or choose another in Settings.";
    case "NotReadableError":
      return "The microphone is in use by another program, or the system does not allow it.";
    default:
      return `The microphone cannot be used: ${error.message}`;
  }
}

/** Why this page cannot have a microphone at all; empty where it can. */
export function pageTrouble() {
  if (!window.isSecureContext) {
    return "Browsers give the microphone only to secure pages. Open this page as https:// (start the server with --https), or on the server's own machine as http://localhost.";
  }
  if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) {
    return "This browser is too old to talk: it has no microphone access or no AudioWorklet.";
  }
  return "";
}

/** Opens both; `onFrame` gets the microphone in Float32Arrays of 1920 samples. */
export async function openSound({ input, output, volume, onFrame, onPlayback, onLost }) {
  const context = new AudioContext({ latencyHint: "interactive" });
  let stream;
  try {
    await context.audioWorklet.addModule("worklet.js").catch(({ message }) => {
      throw new DOMException(message, "ServerGone");
    });
    stream = await openMicrophone(input); // last: what fails before leaves it closed
  } catch (error) {
    await context.close();
    throw error;
  }
  await context.resume();
  const source = context.createMediaStreamSource(stream);
  const microphone = new AudioWorkletNode(context, "microphone", {
    numberOfOutputs: 0,
    channelCount: 1,
    channelCountMode: "explicit",
  });
  const speaker = new AudioWorkletNode(context, "speaker", {
    numberOfInputs: 0,
    outputChannelCount: [1],
  });
  const gain = new GainNode(context, { gain: volume });
  source.connect(microphone);
  speaker.connect(gain);
  gain.connect(context.destination);
  microphone.port.onmessage = ({ data }) => onFrame(data);
  speaker.port.onmessage = ({ data }) => onPlayback(data);
  stream.getAudioTracks()[0].addEventListener("ended", onLost);
  if (output && context.setSinkId) await context.setSinkId(output).catch(() => {});
  return {
    outputMs: () => 1000 * ((context.outputLatency || 0) + (context.baseLatency || 0)),
    setVolume: (loudness) => gain.gain.setTargetAtTime(loudness, context.currentTime, 0.02),
    play: (pcm) => speaker.port.postMessage(pcm),
    forget: () => speaker.port.postMessage("forget"),
    async close() {
      stream.getTracks().forEach((track) => track.stop());
      if (context.state !== "closed") await context.close();
    },
  };
}

function openMicrophone(deviceId) {
  const wanted = {
    channelCount: 1,
    echoCancellation: true,
    noiseSuppression: true,
    autoGainControl: true,
  };
  if (deviceId) wanted.deviceId = { exact: deviceId };
  return navigator.mediaDevices.getUserMedia({ audio: wanted });
}

/** Fills the two lists of devices; names are known once the microphone was allowed. */
export async function listDevices(inputs, outputs = null) {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  for (const [list, kind] of [[inputs, "audioinput"], [outputs, "audiooutput"]]) {
    if (!list) continue;
    const chosen = list.value;
    const found = devices.filter((d) => d.kind === kind && d.deviceId !== "default");
    list.replaceChildren(new Option("Default", ""));
    found.forEach((device, i) => {
      if (device.deviceId) list.add(new Option(device.label || `${i + 1}`, device.deviceId));
    });
    list.value = [...list.options].some((o) => o.value === chosen) ? chosen : "";
  }
}

/** Loudness of a frame, 0 to 1, as the eye wants it. */
export function level(pcm) {
  let sum = 0;
  for (const sample of pcm) sum += sample * sample;
  const decibel = 10 * Math.log10(sum / pcm.length + 1e-10);
  return Math.min(1, Math.max(0, (decibel + 55) / 45));
}
