"""Mutated configs and safetensors headers: what a stranger's checkpoint may hold."""

import copy
import io
import json
import random
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from moshi_mlx.checkpoint.build import load_lm, load_mimi
from moshi_mlx.checkpoint.helium import HELIUM_2B
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.torch_file import read_torch
from moshi_mlx.models import LmGen
from moshi_mlx.models.mimi_config import MimiConfig
from moshi_mlx.utils.gguf import read_gguf
from moshi_mlx.utils.sampling import Sampler
from moshi_mlx.utils.tensor_files import read_tensors
from tests.tiny import BASE, CONDITIONED, pytorch_weights
from tests.tiny_mimi import GOLDEN

DATA = Path(__file__).parents[1] / "data"
RICH: dict[str, Any] = {
    **BASE,
    **CONDITIONED,
    "model_type": "moshi",
    "lm_gen_config": {"temp": 0.5, "temp_text": 0.3, "top_k": 25, "top_k_text": 25},
    "tts_config": {"audio_delay": 0.32, "second_stream_ahead": 2, "max_speakers": 2},
    "stt_config": {"audio_delay_seconds": 0.5, "audio_silence_prefix_seconds": 0.0},
    "model_id": {"sig": "1e68beda", "epoch": 240},
    "quantization": {},
    "extra_heads_num_heads": 0,
    "depformer_weights_per_step_schedule": [0, 1, 2],
    "moshi_name": "model.safetensors",
    "mimi_name": "mimi.safetensors",
    "mimi_config_name": "mimi_config.json",
    "tokenizer_name": "tokenizer.model",
}
HOSTILE: list[Any] = [
    *(None, True, False, 0, 1, 2, -1, -(10**9), 10**8, 10**9, 10**18, 2**31, 2**63),
    *(0.5, -0.0, 1e-300, 1e300, "", "x", "file:///dev/zero", "/etc/passwd", "../../x"),
    *("hf://", "a\nb", "\0", "é" * 5000, [], {}, [[]], [10**9], ["x"], {"bits": []}),
    *({"x": {"bits": 10**9}}, [0] * 5000, [-1], list(range(300)), [None], [1e300]),
]
BROKEN = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "[" * 5000,
    '{"a":' * 400,
    "9" * 5000,
]


def damaged(data: bytes, rng: random.Random, head: int) -> bytes:
    """Bytes with one to four changes, all among the first ``head``."""
    new = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(min(head, len(new)) + 1)
        size = rng.choice((1, 2, 4, 8, 100))
        change = rng.randrange(5)
        if change == 0:
            new[at : at + size] = rng.randbytes(size)
        elif change == 1:
            number = rng.choice((0, 1, 2**31, 2**32 - 1, 2**40, 2**63)) % 256**size
            new[at : at + size] = number.to_bytes(size, "little")
        elif change == 2:
            del new[at : at + size]
        elif change == 3:
            new[at:at] = new[at : at + size] * rng.choice((1, 3, 50))
        else:
            new[at : at + 1] = bytes(
                b ^ 1 << rng.randrange(8) for b in new[at : at + 1]
            )
    return bytes(new)


def values(data: Any) -> list[tuple[Any, Any]]:
    """Every place of a JSON value: the object or list, and the key in it."""
    pairs = data.items() if isinstance(data, dict) else enumerate(data)
    found = [(data, key) for key, _ in pairs]
    for _, inner in list(data.items() if isinstance(data, dict) else enumerate(data)):
        if isinstance(inner, dict | list):
            found += values(inner)
    return found


def mutated(data: Mapping[str, Any], rng: random.Random) -> str:
    """JSON text of ``data`` with one to three hostile values."""
    changed = copy.deepcopy(dict(data))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not changed:
            break
        inside, key = rng.choice(values(changed))
        old = inside[key]
        if rng.random() < 0.2 and isinstance(old, int | float) and old:
            inside[key] = type(old)(old * rng.choice((2, 3, 100, 0.5)))
        elif rng.random() < 0.1 and isinstance(inside, dict):
            del inside[key]
        else:
            inside[key] = copy.deepcopy(rng.choice(HOSTILE))
    text = json.dumps(changed)
    if rng.random() < 0.1:
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(BROKEN) + text[at + rng.randrange(3) :]
    return text


def _prepare(folder: Path) -> None:
    if not (folder / "model.safetensors").exists():
        weights = folder / "model.safetensors"
        mx.save_safetensors(str(weights), pytorch_weights(RICH))
        for name in ("mimi_released_names.safetensors", "mimi_config.json"):
            wanted = name.replace("mimi_released_names", "mimi")
            (folder / wanted).write_bytes((GOLDEN / name).read_bytes())
        (folder / "tokenizer.model").write_bytes(b"no model")
        (folder / "good.json").write_bytes((GOLDEN / "mimi_config.json").read_bytes())


def try_config(rng: random.Random, folder: Path) -> None:
    """Load a language model under a mutated config, and take a step if it loads."""
    _prepare(folder)
    (folder / "config.json").write_text(mutated(RICH, rng), encoding="utf-8")
    info = CheckpointInfo.find(folder)
    lm = load_lm(info)
    sampler = Sampler(info.lm_gen_config.get("temp", 0.8), top_p=0, top_k=5)
    gen = LmGen(lm, text_sampler=sampler, audio_sampler=sampler)
    others = mx.zeros((1, lm.cfg.other_codebooks), mx.int32)
    if not lm.cfg.transformer.cross_attention:
        gen.step(others)


def try_codec_config(rng: random.Random, folder: Path) -> None:
    """Load a codec under a mutated config, and decode a frame if it loads."""
    _prepare(folder)
    good = json.loads((folder / "good.json").read_text())
    (folder / "mimi_config.json").write_text(mutated(good, rng), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(RICH), encoding="utf-8")
    mimi = load_mimi(CheckpointInfo.find(folder), rng.choice((None, 3)))
    mimi.decode(mx.zeros((1, mimi.num_codebooks, 1), mx.int32))


@cache
def _stated() -> tuple[dict[str, Any], ...]:
    """The config.json of every other format that is read."""
    transformers = sorted((DATA / "transformers").glob("*/config.json"))
    kyutais = [DATA / name / "config.json" for name in ("personaplex", "moshivis")]
    read = [json.loads(path.read_text()) for path in (*transformers, *kyutais)]
    sizes = {"dim": 64, "num_layers": 2, "num_heads": 4}
    split = {"temporal": {**sizes, "n_q": 8}, "depformer": {**sizes, "num_steps": 16}}
    written = [
        {"model_type": "personaplex", "version": "7b-v1"},
        {"model_type": "personaplex", **split, "quantization": {"bits": 4}},
        {"dep_q": 16, "n_q": 16, "lora_scaling": 2.0},
        HELIUM_2B,
    ]
    return *read, *written


def try_other_config(rng: random.Random, folder: Path) -> None:
    """Say what a mutated config of another format describes."""
    text = mutated(rng.choice(_stated()), rng)
    (folder / "config.json").write_text(text, encoding="utf-8")
    info = CheckpointInfo.find(folder)
    assert info.kind.codebooks >= 0 and info.model_type
    if info.kind.engine != "codec":
        assert info.lm_config.transformer.num_layers >= 0
    if info.kind.engine == "codec" or info.codec_prefix:
        assert MimiConfig.from_config_dict(info.mimi_config or {}).quantizer_nq > 0


def header_and_data(rng: random.Random) -> bytes:
    """A small safetensors file with a mutated header, or with changed bytes."""
    types = {"F32": 4, "BF16": 2, "U32": 4, "I64": 8, "BOOL": 1, "F8_E4M3": 1}
    entries: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    at = 0
    for n in range(rng.randrange(1, 5)):
        dtype = rng.choice(list(types))
        shape = [rng.randrange(1, 5) for _ in range(rng.randrange(4))]
        size = int(np.prod(shape)) * types[dtype]
        entries[f"t{n}"] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [at, at + size],
        }
        at += size
    text = mutated(entries, rng) if rng.random() < 0.8 else json.dumps(entries)
    header = bytearray(text.encode())
    for _ in range(rng.choice((0, 0, 1, 4))):
        header[rng.randrange(len(header))] = rng.randrange(256)
    length = len(header) if rng.random() < 0.9 else rng.choice((0, 1, 2**40, 2**63))
    data = rng.randbytes(at)
    whole = length.to_bytes(8, "little") + bytes(header) + data
    return whole if rng.random() < 0.9 else whole[: rng.randrange(len(whole))]


def try_header(rng: random.Random, folder: Path) -> None:
    """Read every tensor of a mutated safetensors file."""
    path = folder / "case.safetensors"
    path.write_bytes(header_and_data(rng))
    mx.eval(read_tensors(path))


def try_gguf(rng: random.Random, folder: Path) -> None:
    """Read every tensor of a mutated GGUF file."""
    path = folder / "case.gguf"
    name = rng.choice(("model.q4.gguf", "model.q8.gguf"))
    path.write_bytes(damaged((DATA / "gguf" / name).read_bytes(), rng, 8000))
    mx.eval(read_gguf(path))


def try_torch(rng: random.Random, _folder: Path) -> None:
    """Read a voice with a mutated pickle, as ``torch.save`` would write it."""
    name = rng.choice(("voice.pt", "voice_bf16.pt"))
    with zipfile.ZipFile(DATA / "personaplex" / name) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    target = rng.choice([k for k in members if k.endswith("data.pkl")] * 9 + [*members])
    members[target] = damaged(members[target], rng, len(members[target]))
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    whole = data.getvalue()
    whole = damaged(whole, rng, len(whole)) if rng.random() < 0.2 else whole
    read_torch("case.pt", whole)


KINDS = {
    "configs": try_config,
    "codec configs": try_codec_config,
    "other formats' configs": try_other_config,
    "safetensors headers": try_header,
    "gguf files": try_gguf,
    "torch files": try_torch,
}
