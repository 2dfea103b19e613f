"""Golden data of speech and translation from PyTorch, where other data leave gaps.

Run by hand, with Kyutai's PyTorch package in the interpreter:

    pip install moshi==0.2.13
    python scripts/make_tts_assets.py tests/data/tts tests/data/tts/prefix \\
        tests/data/hibiki tests/data/zero

The first folder is a small TTS checkpoint (``config.json``, ``mimi.safetensors``,
``tokenizer.model``, ``voice.wav``). Written are, from random weights and greedily:

- ``reduced.safetensors`` in it: its own model with 3 of its 6 codebooks.
- the second folder: a model as kyutai/tts-0.75b-en-public is (``text_card_out`` 5, no
  speaker condition) that continues ``voice.wav``, alone and under guidance.
- the third folder: a Hibiki that translates ``voice.wav`` to its end, without and with
  guidance (``very_good`` against ``very_bad``).
- the fourth folder: a Hibiki-Zero that translates it, as kyutai-labs/hibiki-zero does.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import sphn
import torch  # pyright: ignore[reportMissingImports]
from moshi.models import LMGen, loaders  # pyright: ignore[reportMissingImports]
from moshi.models.tts import TTSModel  # pyright: ignore[reportMissingImports]
from moshi.run_inference import (  # pyright: ignore[reportMissingImports]
    InferenceState,
)
from safetensors.torch import save_file  # pyright: ignore[reportMissingImports]

SCRIPT = ["hello there how are <break time='0.4s'/> you today".replace("'", '"')]
GUIDANCE = {"plain": 1.0, "guided": 3.0}
DROPPED = ("cross_attention", "fuser")  # what the prefix model does not have
REDUCED = 3
EOS, FRAME = 2, 1920
LONGEST = 90  # frames of silence after a recording, at most
HIBIKI_SEED, HIBIKI_EOS = 1, 2.2  # with them both translations end soon
ZERO_SEED, ZERO_EOS = 6, 1.6  # with them it ends soon, and after its input


def prefix_config(base: dict[str, Any]) -> dict[str, Any]:
    """The base's config, made over to a model of the smaller kind."""
    config = {key: value for key, value in base.items() if key not in DROPPED}
    control = {"type": "lut", "lut": base["conditioners"]["control"]["lut"]}
    return config | {
        "text_card_out": 5,
        "card": 64,  # the codec's, whose codes the prefix brings
        "conditioners": {"control": control},
        "fuser": {"sum": ["control"], "prepend": [], "cross": []},
    }


def write_prefix_model(base: Path, folder: Path) -> None:
    """Config and random weights that speak neither too soon nor never."""
    config = prefix_config(json.loads((base / "config.json").read_text()))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    torch.manual_seed(7)
    info = checkpoint(base, folder)
    lm = loaders.get_moshi_lm(None, info.lm_config, dtype=torch.float32)
    for name, weight in lm.named_parameters():
        if weight.dim() > 1 and not name.endswith("alpha"):
            torch.nn.init.normal_(weight.data, std=0.5 * weight.shape[-1] ** -0.5)
        if "emb" in name and weight.dim() > 1:
            torch.nn.init.normal_(weight.data, std=1.0)
    save_file(lm.state_dict(), folder / "model.safetensors")


def checkpoint(base: Path, folder: Path) -> Any:
    """The model in ``folder`` with the codec and the tokenizer of ``base``."""
    return loaders.CheckpointInfo.from_hf_repo(
        "local",
        moshi_weights=folder / "model.safetensors",
        mimi_weights=base / "mimi.safetensors",
        tokenizer=base / "tokenizer.model",
        config_path=folder / "config.json",
        mimi_config_path=base / "mimi_config.json",
    )


def load(base: Path, folder: Path, **settings: Any) -> TTSModel:
    info = checkpoint(base, folder)
    settings["max_speakers"] = info.tts_config["max_speakers"]
    return TTSModel.from_checkpoint_info(
        info, temp=0.0, dtype=torch.float32, device="cpu", **settings
    )


def reduced(base: Path) -> None:
    """Fewer codebooks of the base model."""
    tts = load(base, base, n_q=REDUCED)
    voice = base / f"voice_a.wav{tts.voice_suffix}"
    result = tts.generate(
        [tts.prepare_script(SCRIPT, padding_between=1)],
        [tts.make_condition_attributes([voice], 2.0)],
    )
    save(base / "reduced.safetensors", result)


def prefixed(base: Path, folder: Path) -> None:
    """Speech that continues a recording, with and without guidance."""
    for name, coef in GUIDANCE.items():
        tts = load(base, folder, n_q=6, cfg_coef=coef)
        prefix = tts.get_prefix(base / "voice.wav")
        attributes = tts.make_condition_attributes([], None)
        attributes.text.pop("cfg")
        result = tts.generate(
            [tts.prepare_script(SCRIPT, padding_between=1)], [attributes], [prefix]
        )
        save(folder / f"{name}.safetensors", result, prefix=prefix)


def save(path: Path, result: Any, **more: torch.Tensor) -> None:
    """Codes ``[1, 1 + K, frames]``, (predicted, read) ``[steps, 2]``, the end step."""
    tensors = {
        "codes": torch.cat(result.frames, dim=-1).int(),
        "logged": torch.tensor(result.logged_text_tokens[0]).int(),
        "end_step": torch.tensor(result.end_steps[0]).int(),
        "consumption_times": torch.tensor(result.all_consumption_times[0]).int(),
    }
    more = {name: value.int() for name, value in more.items()}
    save_file({**tensors, **more}, path)
    print(path, tensors["codes"].shape, result.end_steps, result.all_transcripts)


def hibiki_config(base: dict[str, Any]) -> dict[str, Any]:
    """The base's config, made over to a translator with 3 own and 3 heard streams."""
    surplus = ("cross_attention", "demux_second_stream", "tts_config", "model_id")
    config = {key: value for key, value in base.items() if key not in surplus}
    table = {"n_bins": 5, "dim": 8, "tokenizer": "noop"}
    values = ["very_bad", "bad", "neutral", "good", "very_good"]
    description = {"type": "lut", "lut": {**table, "possible_values": values}}
    return config | {
        "model_type": "hibiki",
        "card": 64,
        "dep_q": 3,
        "delays": [0, 0, 2, 2, 0, 2, 2],
        "depformer_weights_per_step_schedule": [0, 1, 1],
        "conditioners": {"description": description},
        "fuser": {"sum": ["description"], "prepend": [], "cross": []},
    }


def translator(
    base: Path, folder: Path, config: dict[str, Any], seed: int, eos: float
) -> tuple[Any, torch.Tensor]:
    """A random Hibiki that says its end of text, and the sound that it is given."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    info = checkpoint(base, folder)
    torch.manual_seed(seed)
    lm = loaders.get_moshi_lm(None, info.lm_config, dtype=torch.float32)
    for name, weight in lm.named_parameters():
        if weight.dim() > 1 and not name.endswith("alpha"):
            torch.nn.init.normal_(weight.data, std=1.2 * weight.shape[-1] ** -0.5)
    lm.text_linear.weight.data[EOS] *= eos
    save_file(lm.state_dict(), folder / "model.safetensors")
    return info, torch.from_numpy(sphn.read(str(base / "voice.wav"))[0])[None]


def translated(base: Path, folder: Path) -> None:
    """What a random Hibiki says, whose end of text comes early once, and in the end."""
    config = hibiki_config(json.loads((base / "config.json").read_text()))
    info, pcm = translator(base, folder, config, HIBIKI_SEED, HIBIKI_EOS)
    for name, coef in GUIDANCE.items():
        text, codes = translate(info, pcm, coef)
        tensors = {"text": text.int(), "codes": codes.int()}
        save_file(tensors, folder / f"{name}.safetensors")
        print(folder / name, text.tolist())


class WholeFile:
    """A codec whose frames are those of the whole file, silence after it included.

    PyTorch's stream of frames sees one position too few past its window.
    """

    def __init__(self, mimi: Any, pcm: torch.Tensor):
        whole = pcm[..., : pcm.shape[-1] // FRAME * FRAME]
        silence = torch.zeros(1, 1, FRAME * LONGEST)
        self._codes = mimi.encode(torch.cat([whole, silence], dim=-1))
        self._frame = 0
        self.cardinality, self.channels = mimi.cardinality, mimi.channels
        self.num_codebooks = mimi.num_codebooks

    def encode(self, _chunk: torch.Tensor) -> torch.Tensor:
        self._frame += 1
        return self._codes[..., self._frame - 1 : self._frame]

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return codes


def translate(info: Any, pcm: torch.Tensor, coef: float) -> Any:
    """Text tokens ``[T]`` and own codes ``[K, T]`` of PyTorch's own loop."""
    mimi, lm = info.get_mimi(), info.get_moshi(dtype=torch.float32)
    codec = WholeFile(mimi, pcm)
    state = InferenceState(
        info, mimi, info.get_text_tokenizer(), lm, 1, coef, "cpu", use_sampling=False
    )
    state.mimi = codec
    return state.run(pcm)[0]


def zero_config(base: dict[str, Any]) -> dict[str, Any]:
    """A Hibiki with what is Hibiki-Zero's own, and without conditions."""
    config = hibiki_config(base)
    del config["conditioners"], config["fuser"]
    return config | {
        "kv_repeat": 2,
        "hidden_scale": 6,
        "positional_embedding": "rope_concat",
        "depformer_dim_feedforward": None,
        "depformer_norm": "layer_norm",
        "depformer_kv_repeat": 1,
    }


def translated_by_zero(base: Path, folder: Path) -> None:
    """What a random Hibiki-Zero says, up to the end of its text.

    The loop is hibiki_zero's: silence for a warm-up, then the whole recording, the sign
    for its end in the place of a frame, and silence.
    """
    config = zero_config(json.loads((base / "config.json").read_text()))
    info, pcm = translator(base, folder, config, ZERO_SEED, ZERO_EOS)
    mimi, gen = info.get_mimi(), LMGen(info.get_moshi(dtype=torch.float32), False)
    frames = math.ceil(pcm.shape[-1] / FRAME)
    silence = FRAME * (frames + LONGEST) - pcm.shape[-1]
    codes = mimi.encode(torch.nn.functional.pad(pcm, (0, silence)))
    codes[..., frames] = mimi.cardinality
    warm_up = mimi.encode(torch.zeros(1, 1, FRAME * gen.max_delay))
    out = []
    with gen.streaming(1):
        for column in torch.cat([warm_up, codes], dim=-1).split(1, dim=-1):
            if (tokens := gen.step(column)) is not None:
                out.append(tokens[0])
    tokens = torch.cat(out, dim=-1)
    end = tokens[0].tolist().index(EOS)
    tensors = {"text": tokens[0, :end].int(), "codes": tokens[1:, :end].int()}
    save_file(
        {k: t.contiguous() for k, t in tensors.items()}, folder / "plain.safetensors"
    )
    print(folder, frames, end, tokens[0].tolist())


def main() -> None:
    base, folder, third, fourth = map(Path, sys.argv[1:5])
    with torch.no_grad():
        reduced(base)
        write_prefix_model(base, folder)
        prefixed(base, folder)
        translated(base, third)
        translated_by_zero(base, fourth)


if __name__ == "__main__":
    main()
