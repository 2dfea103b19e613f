"""Golden data of speech that PyTorch makes where Kyutai's files leave gaps.

Run by hand, with Kyutai's PyTorch package in the interpreter:

    pip install moshi==0.2.13
    python scripts/make_tts_assets.py tests/data/tts tests/data/tts/prefix

The first folder is a small TTS checkpoint (``config.json``, ``mimi.safetensors``,
``tokenizer.model``, ``voice.wav``). Written are, from random weights and greedily:

- ``reduced.safetensors`` in it: its own model with 3 of its 6 codebooks.
- the second folder: a model as kyutai/tts-0.75b-en-public is (``text_card_out`` 5, no
  speaker condition) that continues ``voice.wav``, alone and under guidance.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from moshi.models import loaders  # pyright: ignore[reportMissingImports]
from moshi.models.tts import TTSModel  # pyright: ignore[reportMissingImports]
from safetensors.torch import save_file  # pyright: ignore[reportMissingImports]

SCRIPT = ["hello there how are <break time='0.4s'/> you today".replace("'", '"')]
GUIDANCE = {"plain": 1.0, "guided": 3.0}
DROPPED = ("cross_attention", "fuser")  # what the prefix model does not have
REDUCED = 3


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


def main() -> None:
    base, folder = Path(sys.argv[1]), Path(sys.argv[2])
    with torch.no_grad():
        reduced(base)
        write_prefix_model(base, folder)
        prefixed(base, folder)


if __name__ == "__main__":
    main()
