"""One contestant of ``compare_peers.py --family``: listen, speak, translate, write.

As peer_worker.py, with a step of each kind of model as tasks: stt, tts, translation,
text. Layers, codebooks and vocabularies are the published models', the width is 64:
what is left is the cost of a layer as such.

    python peer_family.py NAME UNUSED
"""

import os
from typing import Any

import numpy as np
from peer_worker import LM, Frame, Task, check_folder, main

SPEAKER, VOICE_FRAMES = 512, 625  # five places of 125 frames
STEPS = 4000  # that a conversation of 0.3.0 may have: its scripts give about as many


def _lut(values: list[str]) -> dict[str, Any]:
    table = {"n_bins": len(values), "dim": 16, "tokenizer": "noop"}
    return {"type": "lut", "lut": {**table, "possible_values": values}}


STT: dict[str, Any] = {  # kyutai/stt-1b-en_fr
    **LM,
    **{"num_layers": 16, "context": 750, "text_card": 8000},
    **{"n_q": 32, "dep_q": 0, "delays": [0] * 33, "extra_heads_num_heads": 4},
}
TTS: dict[str, Any] = {  # kyutai/tts-1.6b-en_fr
    **LM,
    **{"num_layers": 16, "context": 500, "text_card": 8000},
    **{"n_q": 32, "dep_q": 32, "delays": [0, 0] + [2] * 31},
    **{"depformer_num_layers": 4, "depformer_context": 32},
    "depformer_weights_per_step_schedule": [*range(8), *[8] * 8, *[9] * 8, *[10] * 8],
    "cross_attention": True,
    "demux_second_stream": True,
    "conditioners": {
        "speaker_wavs": {"type": "tensor", "tensor": {"dim": SPEAKER}},
        "control": _lut(["ok"]),
    },
    "fuser": {
        "cross_attention_pos_emb": True,
        "cross_attention_pos_emb_scale": 1,
        **{"sum": ["control"], "prepend": [], "cross": ["speaker_wavs"]},
    },
}
TRANSLATION: dict[str, Any] = {  # kyutai/hibiki-1b
    **LM,
    **{"num_layers": 16, "context": 500, "text_card": 48000},
    "delays": [0] + 2 * [0, *[2] * 7],
    "conditioners": {"description": _lut(["very_bad", "very_good"])},
    "fuser": {"sum": ["description"], "prepend": [], "cross": []},
}
CONFIGS = {"stt": STT, "tts": TTS, "translation": TRANSLATION}
TEXTS = {"tts": ("control", "ok"), "translation": ("description", "very_good")}
HELIUM = {"num_layers": 24, "context": 4096, "vocabulary": 48000}

rng = np.random.default_rng(0)


def heard(config: dict[str, Any]) -> np.ndarray:
    """A frame of the other side, ``[1, other]``."""
    others = config["n_q"] - config["dep_q"]
    return rng.integers(0, config["card"], (1, others)).astype(np.int32)


def voice() -> np.ndarray:
    return rng.standard_normal((1, VOICE_FRAMES, SPEAKER), dtype=np.float32)


def ours(_file: str) -> dict[str, Task]:
    """This package."""
    import mlx.core as mx

    from moshi_mlx.models import Lm, LmConfig, LmGen
    from moshi_mlx.modules.conditioner import ConditionAttributes, TensorCondition
    from moshi_mlx.utils import Sampler

    mx.set_default_device(mx.cpu)

    def task(name: str) -> Task:
        config = CONFIGS[name]
        lm = Lm(LmConfig.from_config_dict(config))
        mx.eval(lm.parameters())
        conditions: Any = (None, None)
        if name in TEXTS and lm.condition_provider is not None:
            given = ConditionAttributes(dict([TEXTS[name]]))
            if name == "tts":
                mask = mx.ones((1, VOICE_FRAMES))
                given.tensor["speaker_wavs"] = TensorCondition(mx.array(voice()), mask)
            conditions = lm.condition_provider.fuse([given])

        def begin() -> Frame:
            text, audio = samplers(Sampler, name, top_p=0)
            gen = LmGen(lm, None, text, audio, seed=0)

            def frame() -> None:
                if name == "stt":
                    mx.eval(gen.step_with_extra_heads(mx.array(heard(config))))
                    return
                gen.step(mx.array(heard(config)), *conditions)
                mx.eval(gen.tokens)
                gen.last_audio_tokens()

            return frame

        return begin

    return {**{name: task(name) for name in CONFIGS}, "text": mlx_text()}


def before(file: str) -> dict[str, Task]:
    """An older version of this package, from the folder in PYTHONPATH."""
    check_folder()
    return ours(file)


def mlx03(_file: str) -> dict[str, Task]:
    """moshi_mlx 0.3.0."""
    import mlx.core as mx

    from moshi_mlx.models import Lm, LmConfig, LmGen
    from moshi_mlx.modules.conditioner import TensorCondition
    from moshi_mlx.utils import Sampler

    mx.set_default_device(mx.cpu)

    def task(name: str) -> Task:
        config = CONFIGS[name]
        lm: Any = Lm(LmConfig.from_config_dict(config))
        mx.eval(lm.parameters())
        conditions: dict[str, Any] = {}
        if name in TEXTS:
            provider = lm.condition_provider
            conditions["ct"] = provider.condition_tensor(*TEXTS[name])
            if name == "tts":
                mask = mx.ones((1, VOICE_FRAMES), mx.bool_)
                value = TensorCondition(mx.array(voice()), mask)
                source = provider.conditioners["speaker_wavs"].condition(value)
                conditions["cross_attention_src"] = source

        def begin() -> Frame:
            for cache in lm.transformer_cache:
                cache.reset()
            gen: Any = LmGen(lm, STEPS, *samplers(Sampler, name))

            def frame() -> None:
                if name == "stt":
                    mx.eval(gen.step_with_extra_heads(mx.array(heard(config))))
                    return
                told = gen.step(mx.array(heard(config)), **conditions)
                own = gen.last_audio_tokens()
                mx.eval(told, [] if own is None else own)

            return frame

        return begin

    return {**{name: task(name) for name in CONFIGS}, "text": mlx_text()}


def samplers(make: Any, task: str, **options: Any) -> tuple[Any, Any]:
    """Of text and audio; speech to text is greedy."""
    if task == "stt":
        return make(0.0), make(0.0)
    return make(0.7, top_k=25, **options), make(0.8, top_k=250, **options)


def mlx_text() -> Task:
    """A token of Helium, in the loop of run_helium, which is the same for both."""
    import mlx.core as mx

    from moshi_mlx.models import Lm, config_helium_1_preview_2b
    from moshi_mlx.utils import Sampler

    cfg: Any = config_helium_1_preview_2b()
    for stack in (cfg.transformer, cfg.depformer.transformer):
        stack.d_model, stack.num_heads, stack.dim_feedforward = 64, 4, 4 * 64
    lm: Any = Lm(cfg)
    mx.eval(lm.parameters())
    sampler = Sampler(0.8, top_k=25)

    def begin() -> Frame:
        for cache in lm.transformer_cache:
            cache.reset()
        last = [mx.array([[1]])]

        def frame() -> None:
            token, _ = sampler(lm(last[0])[:, -1])
            last[0] = token[None]
            mx.eval(token)

        return frame

    return begin


def torch(_file: str) -> dict[str, Task]:
    """PyTorch moshi, which has no Helium."""
    os.environ["NO_TORCH_COMPILE"] = "1"  # it compiles for CUDA only
    import torch  # pyright: ignore[reportMissingImports]
    from moshi.conditioners import (  # pyright: ignore[reportMissingImports]
        ConditionAttributes,
        TensorCondition,
    )
    from moshi.models import LMGen, loaders  # pyright: ignore[reportMissingImports]

    def task(name: str) -> Task:
        config = CONFIGS[name]
        lm = loaders.get_moshi_lm(None, dict(config), dtype=torch.float32)
        conditions = {}
        if name in TEXTS:
            given = ConditionAttributes(text=dict([TEXTS[name]]), tensor={})
            if name == "tts":
                mask = torch.ones((1, VOICE_FRAMES), dtype=torch.bool)
                wav = TensorCondition(torch.from_numpy(voice()), mask)
                given.tensor["speaker_wavs"] = wav
            conditions = lm.condition_provider.prepare_and_provide([given])
        options = {"temp": 0.0, "temp_text": 0.0} if name == "stt" else {}
        gen = LMGen(lm, condition_tensors=conditions or None, **options)
        entered: list[Any] = []

        def begin() -> Frame:
            if entered:
                entered.pop().__exit__(None, None, None)
            entered.append(gen.streaming(1))
            entered[0].__enter__()

            def frame() -> None:
                given = torch.from_numpy(heard(config)).long()[..., None]
                with torch.inference_mode():
                    if name == "stt":
                        gen.step_with_extra_heads(given)
                    else:
                        gen.step(given)

            return frame

        return begin

    return {name: task(name) for name in CONFIGS}


def torch_1_thread(file: str) -> dict[str, Task]:
    """PyTorch moshi on one thread, as where other programs take the other cores."""
    import torch as pytorch  # pyright: ignore[reportMissingImports]

    pytorch.set_num_threads(1)
    return torch(file)


if __name__ == "__main__":
    main({f.__name__: f for f in (ours, before, mlx03, torch, torch_1_thread)})
