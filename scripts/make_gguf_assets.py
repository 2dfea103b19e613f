#!/usr/bin/env python
"""Make tests/data/gguf/model.q4.gguf, and what ggml's own code reads in it.

Needs ``pip install gguf`` (0.19 was used), which nothing else in the project does. The
file holds the golden GGUF model again: matrices in Q4_0, some in Q4_1, F16 and BF16, so
that every kind that is read has a golden value. The same versions give the same bytes.
"""

import json
from pathlib import Path
from typing import Any

import gguf  # type: ignore
import numpy as np

FOLDER = Path(__file__).parents[1] / "tests" / "data" / "gguf"
OTHERS = {  # of the matrices, by the end of their names
    "text_emb.weight": "Q4_1",
    "text_linear.weight": "Q8_0",
    "emb.0.weight": "F16",
    "emb.1.weight": "BF16",
}
KEPT = ("transformer.layers.0.self_attn", "depformer.1.", "out_norm", *OTHERS)


def main() -> None:
    writer = gguf.GGUFWriter(FOLDER / "model.q4.gguf", "moshi")
    kept: dict[str, Any] = {}
    for tensor in gguf.GGUFReader(FOLDER / "model.q8.gguf").tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        values = values.reshape(*reversed(tensor.shape.tolist())).astype(np.float32)
        form = "F32" if values.ndim != 2 else OTHERS.get(tensor.name, "Q4_0")
        kind = gguf.GGMLQuantizationType[form]
        data = gguf.quants.quantize(values, kind)
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
        if tensor.name.startswith(KEPT):
            kept[tensor.name] = gguf.quants.dequantize(data, kind).astype(np.float32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write_safetensors(FOLDER / "dequantised.q4.safetensors", kept)


def write_safetensors(path: Path, arrays: dict[str, Any]) -> None:
    entries, start = {}, 0
    for name in sorted(arrays):
        end = start + arrays[name].nbytes
        entry = {"dtype": "F32", "shape": list(arrays[name].shape)}
        entries[name] = {**entry, "data_offsets": [start, end]}
        start = end
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    data = b"".join(arrays[name].tobytes() for name in sorted(arrays))
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


if __name__ == "__main__":
    main()
