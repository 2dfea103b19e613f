"""What Unmute's own classes make of our server; runs in Unmute's Python, and prints."""

import asyncio
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
from unmute.service_discovery import find_instance  # type: ignore[import-not-found]
from unmute.stt.speech_to_text import (  # type: ignore[import-not-found]
    SpeechToText,
    STTMarkerMessage,
)
from unmute.tts.text_to_speech import (  # type: ignore[import-not-found]
    TextToSpeech,
    TTSAudioMessage,
    TTSClientEosMessage,
)
from unmute.tts.voice_cloning import clone_voice  # type: ignore[import-not-found]


async def hear(pcm: np.ndarray) -> dict[str, object]:
    """Send 1.6 s of sound and as much silence, then a marker."""
    stt = await find_instance("stt", SpeechToText)
    for sound in (pcm, np.zeros(38400, np.float32)):
        for at in range(0, len(sound), 1920):
            await stt.send_audio(sound[at : at + 1920])
    await stt.send_marker(7)
    words, marker = [], None
    for _ in range(20):  # its echo needs more sound
        await stt.send_audio(np.zeros(1920, np.float32))
    async for told in stt:
        if isinstance(told, STTMarkerMessage):
            marker = told.id
            break
        words.append(told.text)
    pause, time_s = stt.pause_prediction.value, stt.current_time
    await stt.websocket.close()
    return {"words": words, "marker": marker, "pause": pause, "time_s": time_s}


async def say(voice: str | None, text: str) -> dict[str, object]:
    tts = await find_instance("tts", partial(TextToSpeech, voice=voice))
    for word in text.split():
        await tts.send(word)
    await tts.send(TTSClientEosMessage())
    words, samples = [], 0
    async for told in tts:
        if isinstance(told, TTSAudioMessage):
            samples += len(told.pcm)
        else:
            words.append(told.text)
    return {"words": words, "samples": samples}


async def main(sound: str, recording: str | None) -> None:
    told = {"heard": await hear(np.load(sound))}
    voice = None
    if recording is not None:
        voice = await asyncio.to_thread(clone_voice, Path(recording).read_bytes())
    told["said"] = await say(voice, "hello there how are you")
    print(json.dumps(told))


asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
