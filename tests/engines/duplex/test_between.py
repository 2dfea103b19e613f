"""What a model prepares while others talk: a picture, a persona's prompt. Both come in
steps, so that a frame waits for a layer and not for the whole."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

import moshi_mlx
from moshi_mlx.audio import write_wav
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.engines.thread import ModelThread
from tests.persona import personaplex_folder
from tests.vision import picture, vis_folder


def work_and_frames(moshi: Moshi, prepare: Callable[[], object], monkeypatch):
    """What the model's thread does if a frame comes during every step of the work."""
    thread, done = moshi.owner, []
    assert isinstance(thread, ModelThread)
    real = thread.start_job

    def start_job(make, on_step, ahead=None):
        def made():
            for value in make():
                thread.call(lambda: done.append("frame"))
                done.append("step")
                yield value

        return real(made, on_step, ahead)

    monkeypatch.setattr(thread, "start_job", start_job)
    prepare()
    thread.run(lambda: None)
    return done


def test_frames_come_between_the_layers_of_a_picture(tmp_path: Path, monkeypatch):
    moshi = moshi_mlx.load(vis_folder(tmp_path / "vis"))
    encoder = moshi.image_encoder
    assert encoder is not None
    show = lambda: moshi.encode_image(picture())  # noqa: E731
    done = work_and_frames(moshi, show, monkeypatch)
    assert done == ["step", "frame"] * (len(encoder.tower.layers) + 3)


def test_frames_come_between_the_layers_of_a_prompt(tmp_path: Path, monkeypatch):
    moshi = moshi_mlx.load(personaplex_folder(tmp_path / "tiny"))
    tell = lambda: moshi.start("You teach.")  # noqa: E731
    done = work_and_frames(moshi, tell, monkeypatch)
    assert done == ["step", "frame"] * len(moshi.lm.transformer.layers)


def test_frames_come_between_those_of_a_recorded_voice(tmp_path: Path, monkeypatch):
    moshi = moshi_mlx.load(personaplex_folder(tmp_path / "tiny"))
    rng = np.random.default_rng(0)
    write_wav(tmp_path / "me.wav", 0.1 * rng.standard_normal(30_000).astype("f4"))
    hear = lambda: moshi.start("", tmp_path / "me.wav")  # noqa: E731
    done = work_and_frames(moshi, hear, monkeypatch)
    frames = 16  # of 1,920 samples
    assert done == ["step", "frame"] * (frames + len(moshi.lm.transformer.layers))
