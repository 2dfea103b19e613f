"""Voices that clients make of recordings: kept, listed, asked for by name, removed."""

import asyncio
import json
import urllib.error
import urllib.request

import msgpack
import numpy as np
import pytest
from openai import OpenAI

from moshi_mlx.audio.encode import encoded
from moshi_mlx.errors import NoPlace, NotServed, ProtocolError
from moshi_mlx.serve import kept_voices, voices
from moshi_mlx.serve.kept_voices import KeptVoices
from tests.listening import noise
from tests.serve.small import small

CODES = np.arange(12, dtype=np.int32).reshape(3, 4)


def ask(server, method: str, path: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(server.url(path), body, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def test_a_voice_is_kept_for_its_owner_alone_and_found_again(tmp_path):
    folder = tmp_path / "voices"
    KeptVoices(folder).keep("Anna B.", "a model", CODES)
    [file] = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert "Anna" not in file.name
    again = KeptVoices(folder)
    found = again.find("Anna B.", "a model")
    assert found is not None and (found.codes == CODES).all()
    assert [v.name for v in again.all("a model")] == ["Anna B."]
    assert again.find("Anna B.", "another") is None and not again.all("another")
    assert again.delete("Anna B.", "a model")
    assert not again.delete("Anna B.", "a model") and not list(folder.iterdir())


@pytest.mark.parametrize("name", ["", " ", "a/b", "../a", "a\nb", "x" * 65, 7, None])
def test_a_voices_name_is_words_and_no_path(tmp_path, name):
    with pytest.raises(ProtocolError, match="needs a name"):
        KeptVoices(tmp_path).keep(name, "a model", CODES)
    assert not list(tmp_path.iterdir())


def test_a_voice_is_not_written_over_and_there_is_an_end_of_them(tmp_path, monkeypatch):
    kept = KeptVoices(tmp_path)
    kept.keep("a", "a model", CODES)
    with pytest.raises(ProtocolError, match="already"):
        kept.keep("a", "a model", CODES + 1)
    assert (kept.all("a model")[0].codes == CODES).all()
    monkeypatch.setattr(kept_voices, "MOST_VOICES", 1)
    with pytest.raises(NoPlace, match="delete one"):
        kept.keep("b", "a model", CODES)


def test_a_damaged_voice_is_left_out(tmp_path):
    kept = KeptVoices(tmp_path)
    kept.keep("a", "a model", CODES)
    [file] = tmp_path.iterdir()
    for text in ("", "{}", '{"form": 1}', json.dumps({"form": "moshi_mlx voice 1"})):
        file.write_text(text)
        assert kept.all("a model") == [] and kept.find("a", "a model") is None


def test_a_named_voice_speaks_as_the_one_that_was_sent(tmp_path):
    speech = small(prefix=True, kept=KeptVoices(tmp_path))
    recording = tmp_path / "a.wav"
    recording.write_bytes(encoded(noise(12.0), "wav"))

    async def main() -> tuple[list, list]:
        own = await speech.voices.usual()
        codes = await speech.voices.clone(recording)
        assert codes.shape[1] == 125 - 2  # of 12 s, the first ten
        await speech.voices.keep("anna", codes)
        assert "anna" in await speech.voices.names()
        sent = await speech.voices.of_numbers(codes.astype(np.float32), codes.shape)
        both = []
        for voice in (sent, "anna"):
            async for spoken in speech.spoken("hello", voice, 20):
                if spoken.pcm is not None:
                    both.append(spoken.pcm)
                    break
        with pytest.raises(ProtocolError, match="already"):
            await speech.voices.keep(own, codes)
        assert await speech.voices.forget("anna")
        with pytest.raises(NotServed):
            await speech.voices.find("anna")
        return both[0], both[1]

    sent, named = asyncio.run(main())
    np.testing.assert_allclose(sent, named, atol=1e-5)


def test_a_voice_that_is_longer_than_any_is_refused(monkeypatch):
    speech = small(prefix=True)
    monkeypatch.setattr(voices, "LONGEST_VOICE_S", 0.2)

    async def main() -> None:
        with pytest.raises(NotServed, match=r"0\.2 s at most"):
            await speech.voices.of_numbers(np.zeros(7 * 5, np.float32), (7, 5))

    asyncio.run(main())


def test_moshi_servers_route_keeps_lists_and_removes_voices(serve, tmp_path):
    server = serve(speech=small(prefix=True, kept=KeptVoices(tmp_path)))
    sound = encoded(noise(1.0), "wav")
    message = ask(server, "POST", "/api/voice?name=my%20voice", sound)
    assert msgpack.unpackb(message)["type"] == "Voice"
    [listed] = json.loads(ask(server, "GET", "/api/voice"))
    assert listed["name"] == "my voice"
    body = json.dumps({"text": "hello", "voice": "my voice"}).encode()
    assert ask(server, "POST", "/api/tts_streaming", body)[:4] == b"RIFF"
    ask(server, "DELETE", "/api/voice/my%20voice")
    assert json.loads(ask(server, "GET", "/api/voice")) == []
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(server, "DELETE", "/api/voice/my%20voice")
    assert caught.value.code == 404 and b"is kept" in caught.value.read()
    assert not list(tmp_path.iterdir())


def test_openais_client_makes_uses_and_deletes_a_voice(serve, tmp_path):
    server = serve(speech=small(prefix=True, kept=KeptVoices(tmp_path)))
    sound = encoded(noise(1.0), "wav")
    url = f"http://127.0.0.1:{server.port}/v1"
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        made = client.audio.voices.create(
            name="anna", consent="cons_1", audio_sample=("a.wav", sound)
        )
        assert made.id == made.name == "anna" and made.object == "audio.voice"
        said = client.audio.speech.create(
            input="hello", model="m", voice={"id": made.id}, response_format="pcm"
        )
        assert len(said.content) > 0
        assert any(tmp_path.iterdir())
        client.audio.voices.delete("anna")
        assert not list(tmp_path.iterdir())
