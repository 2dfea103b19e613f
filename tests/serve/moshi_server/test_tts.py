"""Text to speech as Unmute and Kyutai's scripts use it, over a real socket."""

import io
import json
import urllib.error
import urllib.request

import msgpack
import numpy as np
import pytest
import soundfile
import sphn

from moshi_mlx.audio.encode import encoded
from tests.listening import noise
from tests.serve.moshi_server.conftest import PATIENCE_S, Peer, peer
from tests.serve.small import VOICE, small

TEXT = "hello there how are you"
PATH = f"/api/tts_streaming?voice={VOICE}&format="


def ask(server, path: str, body: bytes | None = None) -> bytes:
    asked = urllib.request.Request(server.url(path), body)
    with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
        return answer.read()


def say(client: Peer, text: str = TEXT) -> list:
    for word in text.split():
        client.send("Text", text=word)
    client.send("Eos")
    return client.rest()


def test_a_text_is_the_same_sound_in_all_formats_and_by_post(serve):
    server = serve(speech=small())
    with peer(server, f"{PATH}PcmMessagePack") as client:
        assert client.receive() == {"type": "Ready"}
        told = [msgpack.unpackb(data) for data in say(client)]
    pcm = np.concatenate([m["pcm"] for m in told if m["type"] == "Audio"])
    spoken = [m for m in told if m["type"] == "Text"]
    assert [m["text"] for m in spoken] == TEXT.split()
    assert all(0 <= m["start_s"] <= m["stop_s"] for m in spoken)
    assert {m["type"] for m in told} == {"Audio", "Text"} and len(pcm) % 1920 == 0

    with peer(server, f"{PATH}Pcm") as client:
        bare = np.frombuffer(b"".join(say(client)), "<f4")
    np.testing.assert_allclose(bare, pcm, atol=1e-5)

    with peer(server, f"{PATH}OggOpus") as client:
        ogg = b"".join(say(client))
    assert len(soundfile.read(io.BytesIO(ogg))[0]) >= 2 * len(pcm)  # at 48 kHz

    with peer(server, f"{PATH}OggOpusMessagePack") as client:
        assert client.receive() == {"type": "Ready"}
        told = [msgpack.unpackb(data) for data in say(client)]
    data = [m["data"] for m in told if m["type"] == "OggOpus"]
    assert all(isinstance(octets, list) for octets in data)  # as serde writes them
    decoder = sphn.OpusStreamReader(24000)
    heard = [decoder.append_bytes(bytes(octets)) for octets in data]
    assert sum(map(len, heard)) >= len(pcm)

    body = json.dumps({"text": TEXT, "voice": VOICE, "temperature": 0}).encode()
    wav = ask(server, "/api/tts_streaming", body)
    assert wav[4:8] == wav[40:44] == b"\xff" * 4
    posted = np.frombuffer(wav[44:], "<i2") / 32768
    np.testing.assert_allclose(posted, pcm, atol=1e-3)


def test_eos_before_any_text_ends_it(serve):
    with peer(serve(speech=small()), f"{PATH}PcmMessagePack") as client:
        assert client.receive() == {"type": "Ready"}
        client.send("Eos")
        assert client.rest() == []
        assert client.socket.close_code == 1000


def test_an_unknown_voice_is_the_usual_one_and_an_unknown_format_none(serve):
    server = serve(speech=small())
    with peer(server, "/api/tts_streaming?voice=../x&format=PcmMessagePack") as client:
        assert client.receive() == {"type": "Ready"}
    with pytest.raises(Exception, match="400"), peer(server, f"{PATH}mp3"):
        pass


def test_a_place_comes_back_at_once_with_text_still_to_say(serve, eventually):
    speech = small(rows=1)
    server = serve(speech=speech)
    with peer(server, f"{PATH}PcmMessagePack") as client:
        client.receive()
        client.send("Text", text=f"{TEXT} " * 100)
        client.receive()
        with peer(server, f"{PATH}PcmMessagePack") as other:
            assert other.receive()["message"] == "no free channels"
        with peer(server, f"{PATH}Pcm") as other:
            assert other.rest() == []
    eventually(lambda: speech.said.open == 0)
    with peer(server, f"{PATH}PcmMessagePack") as client:
        assert client.receive() == {"type": "Ready"}


def test_a_recordings_voice_is_made_and_spoken_with(serve):
    server = serve(speech=small(prefix=True))
    voice = ask(server, "/api/voice", encoded(noise(1.0), "wav"))
    fields = msgpack.unpackb(voice)
    assert fields["type"] == "Voice"
    assert np.prod(fields["shape"]) == len(fields["embeddings"])
    path = "/api/tts_streaming?format=PcmMessagePack"
    with peer(server, path) as client:
        assert client.receive() == {"type": "Ready"}
        client.socket.send(voice)
        told = [msgpack.unpackb(data) for data in say(client)]
    assert [m["text"] for m in told if m["type"] == "Text"] == TEXT.split()


def test_only_kyutai_can_make_a_voice_for_other_models(serve):
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(serve(speech=small()), "/api/voice", encoded(noise(1.0), "wav"))
    assert caught.value.code == 501 and b"choose one by name" in caught.value.read()


def test_the_server_tells_of_itself_in_moshi_servers_words(serve):
    server = serve(speech=small())
    with peer(server, f"{PATH}PcmMessagePack") as client:
        client.receive()
        modules = json.loads(ask(server, "/api/modules_info"))
        say(client)
    assert [m["path"] for m in modules] == ["/api/asr-streaming", "/api/tts_streaming"]
    assert all(isinstance(value, str) for m in modules for value in m.values())
    assert (modules[1]["used_slots"], modules[1]["total_slots"]) == ("1", "2")
    build = json.loads(ask(server, "/api/build_info"))
    names = "build_timestamp build_date git_branch git_timestamp git_date git_hash "
    names += "git_describe rustc_host_triple rustc_version cargo_target_triple"
    assert all(isinstance(build[name], str) for name in names.split())
    told = ask(server, "/metrics").decode()
    asr = "connect model_step_duration_sum connection_num_steps_count open_channels"
    py = "connect total_steps active_steps missing_words_steps could_have_run_steps "
    py += "model_step_duration_sum model_connection_num_steps_count open_channels"
    for prefix, parts in (("asr", asr), ("py", py)):
        for part in parts.split():
            assert f'{prefix}_{part}{{handler="all"}} ' in told
    assert 'py_post_model_duration_bucket{handler="all",le="0.1"} 0' in told
    assert 'py_post_connect{handler="all"} 0' in told
