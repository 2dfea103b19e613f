"""A recording in: what a model that listens is given around it."""

import json

import numpy as np

import moshi_mlx
from moshi_mlx.audio import FRAME
from moshi_mlx.audio.framing import Framer
from moshi_mlx.engines.duplex.files import respond
from moshi_mlx.engines.duplex.load import load_moshi
from tests.family import listening
from tests.listening import noise


def test_silence_around_a_recording_is_exact_to_the_sample(tmp_path):
    folder = listening(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["stt_config"] = {
        "audio_delay_seconds": 2.5,
        "audio_silence_prefix_seconds": 1.0,  # 12.5 frames, as in kyutai/stt-2.6b-en
    }
    (folder / "config.json").write_text(json.dumps(config))
    moshi, pcm = load_moshi(folder), noise(0.8)
    session = moshi.session(temp=0, temp_text=0)
    replies = [e.reply for e in respond(session, iter(Framer().push(pcm)), moshi)]
    whole = np.concatenate([np.zeros(24000), pcm, np.zeros(84000)]).astype(np.float32)
    whole = whole[: len(whole) // FRAME * FRAME]  # as PyTorch's run_inference
    codes = np.array(moshi.make_codec().encode_step(whole[None, None]))[0, 0]
    assert len(set(codes.tolist())) > 3
    assert [reply.text_token for reply in replies] == codes.tolist()


def test_an_answer_is_saved_and_reported_after_its_session_has_ended(tmp_path):
    with moshi_mlx.load("demo") as moshi:
        seconds: list[float] = []
        response = moshi.respond(
            noise(0.4), tail_s=0.4, seed=0, on_progress=seconds.append
        )
        assert response.session.closed
        assert seconds == sorted(seconds) and seconds[-1] == response.seconds
        assert response.both.shape == (2, response.frames * FRAME)
        response.save(tmp_path / "answer.wav")
        response.report(tmp_path / "answer.html")
    pcm = moshi_mlx.audio.read(tmp_path / "answer.wav")
    assert pcm.shape[-1] == len(response.pcm)
    assert "Moshi" in (tmp_path / "answer.html").read_text()
