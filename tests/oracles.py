"""What the networks should compute, in NumPy, float64 and plain loops.

Slow on purpose: one position, one head, one stream at a time, written from PyTorch
moshi's definitions and on PyTorch's tensor names, so that nothing of the package's own
code stands behind it.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.tiny import Config, input_schedule, weight_schedule

Array = np.ndarray
Weights = Mapping[str, Array]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "relu": lambda x: np.where(x > 0, x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "identity": lambda x: x,
}
EPS = {
    "layer_norm": 1e-5,
    "layer_norm_f32": 1e-8,
    "rms_norm": 1e-5,
    "rms_norm_f32": 1e-8,
}


def norm(kind: str, x: Array, w: Weights, name: str) -> Array:
    """The norm called ``kind`` over the last axis."""
    if kind.startswith("rms"):
        mean = (x**2).mean(-1, keepdims=True)
        return x / np.sqrt(mean + EPS[kind]) * w[f"{name}.alpha"].reshape(-1)
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS[kind])
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attend(q: Array, k: Array, v: Array) -> Array:
    """One query ``[D]`` over keys and values ``[S, D]``."""
    return softmax(k @ q / math.sqrt(len(q))) @ v


def window_attention(q: Array, k: Array, v: Array, context: int) -> Array:
    """``[T, D]`` each: every position sees itself and ``context - 1`` before it."""
    rows = []
    for t in range(len(q)):
        first = max(0, t - context + 1)
        rows.append(attend(q[t], k[first : t + 1], v[first : t + 1]))
    return np.stack(rows)


def rope(x: Array, positions: Array, max_period: float, interleaved: bool) -> Array:
    """Rotate ``x [T, D]`` by its positions."""
    half = x.shape[-1] // 2
    angle = positions[:, None] * max_period ** (-np.arange(half) / half)
    cos, sin = np.cos(angle), np.sin(angle)
    y = np.empty_like(x)
    first = slice(0, None, 2) if interleaved else slice(0, half)
    second = slice(1, None, 2) if interleaved else slice(half, None)
    y[:, first] = x[:, first] * cos - x[:, second] * sin
    y[:, second] = x[:, first] * sin + x[:, second] * cos
    return y


def sinusoids(positions: Array, dim: int, max_period: float) -> Array:
    half = dim // 2
    angle = positions[:, None] / max_period ** (np.arange(half) / (half - 1))
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=-1)


@dataclass
class Stack:
    """A transformer of PyTorch moshi over one whole sequence ``[T, D]``.

    ``sets`` is the set of weights of each position, where a stack has several.
    """

    w: Weights
    prefix: str
    num_layers: int
    num_heads: int
    kv_repeat: int
    norm: str
    gating: str
    positions: str
    max_period: float
    context: int
    sets: Sequence[int] | None = None
    per_step: bool = False

    def __call__(self, x: Array, cross: Array | None = None) -> Array:
        at = np.arange(len(x))
        if self.positions.startswith("sin"):
            x = x + sinusoids(at, x.shape[1], self.max_period)
        for n in range(self.num_layers):
            layer = f"{self.prefix}.layers.{n}"
            y = norm(self.norm, x, self.w, f"{layer}.norm1")
            y = self._attention(f"{layer}.self_attn", y)
            x = x + self._scale(f"{layer}.layer_scale_1", y)
            if cross is not None:
                y = norm("layer_norm", x, self.w, f"{layer}.norm_cross")
                y = self._cross(f"{layer}.cross_attention", y, cross)
                x = x + self._scale(f"{layer}.layer_scale_cross", y)
            y = norm(self.norm, x, self.w, f"{layer}.norm2")
            rows = [self._feedforward(layer, t, row) for t, row in enumerate(y)]
            x = x + self._scale(f"{layer}.layer_scale_2", np.stack(rows))
        return x

    def _scale(self, name: str, y: Array) -> Array:
        return y * self.w.get(f"{name}.scale", np.ones(1))

    def _linear(self, name: str, x: Array) -> Array:
        """Every position by its own block of rows."""
        whole = self.w[name]
        if self.sets is None:
            return x @ whole.T
        blocks = np.split(whole, max(self.sets) + 1)
        chosen = self.sets[: len(x)]
        pairs = zip(x, chosen, strict=True)
        return np.stack([blocks[s] @ row for row, s in pairs])

    def _attention(self, name: str, x: Array) -> Array:
        d = x.shape[1] // self.num_heads
        kv_heads = self.num_heads // self.kv_repeat
        qkv = self._linear(f"{name}.in_proj_weight", x)
        q, k, v = np.split(qkv, [x.shape[1], x.shape[1] + kv_heads * d], axis=1)
        at = np.arange(len(x))
        heads = []
        for h in range(self.num_heads):
            mine = slice(h * d, (h + 1) * d)
            shared = h // self.kv_repeat
            theirs = slice(shared * d, (shared + 1) * d)
            a, b = q[:, mine], k[:, theirs]
            if "rope" in self.positions:
                pairs = self.positions != "rope_concat"
                a = rope(a, at, self.max_period, pairs)
                b = rope(b, at, self.max_period, pairs)
            heads.append(window_attention(a, b, v[:, theirs], self.context))
        y = np.concatenate(heads, axis=1)
        return self._linear(f"{name}.out_proj.weight", y)

    def _cross(self, name: str, x: Array, cross: Array) -> Array:
        wq, wk, wv = np.split(self.w[f"{name}.in_proj_weight"], 3)
        d = x.shape[1] // self.num_heads
        heads = []
        for h in range(self.num_heads):
            mine = slice(h * d, (h + 1) * d)
            q = x @ wq[mine].T
            k, v = cross @ wk[mine].T, cross @ wv[mine].T
            heads.append(np.stack([attend(row, k, v) for row in q]))
        y = np.concatenate(heads, axis=1)
        return y @ self.w[f"{name}.out_proj.weight"].T

    def _feedforward(self, layer: str, t: int, x: Array) -> Array:
        if self.gating == "none":
            inner = ACTIVATIONS["gelu"](self.w[f"{layer}.linear1.weight"] @ x)
            return self.w[f"{layer}.linear2.weight"] @ inner
        name = f"{layer}.gating"
        if self.per_step and self.sets is not None:
            name = f"{name}.{self.sets[t]}"
        gate, value = np.split(self.w[f"{name}.linear_in.weight"] @ x, 2)
        inner = ACTIVATIONS[self.gating](gate) * value
        return self.w[f"{name}.linear_out.weight"] @ inner


def embed(w: Weights, name: str, token: int, demux: bool = False) -> Array:
    """One token's embedding; -1 is zero."""
    table = w[f"{name}.weight"]
    dim = table.shape[1]
    for key in ("low_rank", "out1"):
        dim = w[f"{name}.{key}.weight"].shape[0] if f"{name}.{key}.weight" in w else dim
    if token == -1:
        return np.zeros(dim)
    if demux:
        first, second = token % len(table), token // len(table) - 1
        y = w[f"{name}.out1.weight"] @ table[first]
        return y if second < 0 else y + w[f"{name}.out2.weight"] @ table[second]
    y = table[token]
    if f"{name}.norm.weight" in w:
        y = norm("layer_norm", y, w, f"{name}.norm")
    low = w.get(f"{name}.low_rank.weight")
    return y if low is None else low @ y


class LmOracle:
    """Logits of a whole sequence, from a config.json and PyTorch's tensors."""

    def __init__(self, c: Config, weights: Mapping[str, Any]):
        self.c = c
        self.w = {k: np.array(v, dtype=np.float64) for k, v in weights.items()}
        self.main = Stack(
            self.w,
            "transformer",
            c["num_layers"],
            c["num_heads"],
            c.get("kv_repeat", 1),
            c["norm"],
            c["gating"],
            c["positional_embedding"],
            c["max_period"],
            c["context"],
        )
        per_step = c.get("depformer_weights_per_step", False)
        self.depth = Stack(
            self.w,
            "depformer",
            c.get("depformer_num_layers", c["num_layers"]),
            c["depformer_num_heads"],
            c.get("depformer_kv_repeat", c.get("kv_repeat", 1)),
            c["norm"],
            c.get("depformer_gating", c["gating"]),
            c["depformer_pos_emb"],
            c.get("depformer_max_period", c["max_period"]),
            c["dep_q"],
            weight_schedule(c) if per_step else None,
            per_step,
        )

    def head(self, name: str, x: Array) -> Array:
        return self.w[f"{name}.weight"] @ x + self.w.get(f"{name}.bias", np.zeros(1))

    def hidden(
        self, columns: Array, added: Array | None = None, cross: Array | None = None
    ) -> Array:
        """Delayed tokens ``[1 + n_q, T]`` to the normed output ``[T, D]``."""
        demux = self.c.get("demux_second_stream", False)
        rows = []
        for column in columns.T:
            x = embed(self.w, "text_emb", column[0], demux)
            for k, token in enumerate(column[1:]):
                x = x + embed(self.w, f"emb.{k}", token)
            rows.append(x if added is None else x + added)
        x = self.main(np.stack(rows), cross)
        return norm(self.c["norm"], x, self.w, "out_norm")

    def frame(self, hidden: Array, tokens: Sequence[int]) -> Array:
        """Depth logits ``[dep_q, card]`` of one frame, told ``[text, codes...]``."""
        demux = self.c.get("demux_second_stream", False)
        inputs = input_schedule(self.c)
        rows = []
        for k in range(self.c["dep_q"]):
            name = f"depformer_emb.{k - 1}" if k else "depformer_text_emb"
            told = embed(self.w, name, int(tokens[k]), demux and k == 0)
            rows.append(self.w[f"depformer_in.{inputs[k]}.weight"] @ hidden + told)
        out = self.depth(np.stack(rows))
        kind = self.c.get("depformer_norm")
        logits = []
        for k, x in enumerate(out):
            if kind:
                x = norm(kind, x, self.w, f"depformer_norms.{k}")
            logits.append(self.head(f"linears.{k}", x))
        return np.stack(logits)

    def initial(self) -> list[int]:
        return [self.c["text_card"]] + [self.c["card"]] * self.c["n_q"]

    def teacher_forced(
        self, codes: Array, added: Array | None = None, cross: Array | None = None
    ) -> tuple[Array, Array, Array, Array]:
        """Aligned tokens ``[1 + n_q, T]``: text logits and mask, audio and mask."""
        c, (streams, steps) = self.c, codes.shape
        columns = np.zeros((streams, steps + 1), int)
        for k, delay in enumerate(c["delays"]):
            for t in range(steps + 1):
                source = t - 1 - delay
                columns[k, t] = codes[k, source] if source >= 0 else self.initial()[k]
        hidden = self.hidden(columns[:, :-1], added, cross)
        card = c.get("text_card_out") or c["text_card"]
        text, text_mask = np.zeros((steps, card)), np.zeros(steps, bool)
        audio = np.zeros((c["dep_q"], steps, c["card"]))
        audio_mask = np.zeros((c["dep_q"], steps), bool)
        for t in range(steps):
            at = t - c["delays"][0]  # which aligned step this call predicts
            if at >= 0 and codes[0, at] != -1:
                text[at], text_mask[at] = self.head("text_linear", hidden[t]), True
            if not c["dep_q"]:
                continue
            logits = self.frame(hidden[t], list(columns[:, t + 1]))
            for k in range(c["dep_q"]):
                at = t - c["delays"][1 + k]
                if at >= 0 and codes[1 + k, at] != -1:
                    audio[k, at], audio_mask[k, at] = logits[k], True
        return text, text_mask, audio, audio_mask

    def condition(self, name: str, value: str | tuple[Array, Array] | None) -> Array:
        """One condition's vectors ``[S, D]``; a tensor comes with its mask."""
        entry = self.c["conditioners"][name]
        prefix = f"condition_provider.conditioners.{name}"
        padding = self.w[f"{prefix}.learnt_padding"][0]
        matrix = self.w[f"{prefix}.output_proj.weight"]
        if isinstance(value, tuple):
            rows, mask = value
            return np.where(mask[:, None] != 0, rows @ matrix.T, padding)
        if value is None:
            return padding
        values = entry["lut"].get("possible_values")
        if values is None:
            digest = hashlib.sha256(value.encode()).hexdigest()
            row = int(digest, 16) % entry["lut"]["n_bins"]
        else:
            row = values.index(value)
        return (matrix @ self.w[f"{prefix}.embed.weight"][row])[None]

    def fuse(self, values: Mapping[str, Any]) -> tuple[Array | None, Array | None]:
        """The summed condition ``[D]`` and the one to attend to ``[S, D]``."""
        fuser = self.c["fuser"]
        total = sum(
            (self.condition(name, values[name])[0] for name in fuser["sum"]),
            np.zeros(1),
        )
        parts = [self.condition(name, values[name]) for name in fuser["cross"]]
        cross = np.concatenate(parts) if parts else None
        if cross is not None and fuser.get("cross_attention_pos_emb"):
            wave = sinusoids(np.arange(len(cross)), self.c["dim"], 10_000)
            cross = cross + fuser["cross_attention_pos_emb_scale"] * wave
        return (total if fuser["sum"] else None), cross
