"""The model card (README.md) of a checkpoint that is uploaded to the hub."""

from collections.abc import Sequence

from ..errors import CheckpointError
from .cost import Cost
from .info import CheckpointInfo
from .licence import stated_licence
from .quantize import Quantization


def model_card(
    info: CheckpointInfo,
    quantization: Quantization,
    weight: Cost,
    repo: str,
    quality: Sequence[str] = (),
) -> str:
    """The card: the origin of the weights, their storage, and how to use them.

    Args:
        info: what was converted.
        quantization: empty for a model in full precision.
        repo: the repository of the card, ``owner/name``.
        quality: lines of Markdown about it.
    """
    base = info.source.repo
    head = ["---", "library_name: mlx", "tags:", "- mlx", "- moshi_mlx", "- speech"]
    head.append(f"pipeline_tag: {info.kind.task}")
    if licence := licence_of(info):
        head.append(f"license: {licence}")
    if base:
        relation = "quantized" if quantization.layers else "finetune"
        relation = relation if quantization.layers or info.lora_weights else None
        head.append(f"base_model: {base}")
        head += [f"base_model_relation: {relation}"] if relation else []
    origin = (
        f"[{base}](https://huggingface.co/{base})" if base else "a local checkpoint"
    )
    return "\n".join(
        [
            *head,
            "---",
            "",
            f"# {repo.rpartition('/')[2]}",
            "",
            f"{origin} for [MLX](https://github.com/ml-explore/mlx), made with "
            "moshi_mlx.",
            "",
            f"- {weight.parameters / 1e6:,.1f} M parameters, {weight.nbytes / 1e9:.2f} "
            f"GB, {weight.bits_per_weight:.2f} bits per weight",
            f"- {_storage(quantization)}",
            *quality,
            "",
            "```bash",
            "pip install moshi_mlx",
            f"moshi-mlx {info.kind.command} --model {repo}",
            "```",
            "",
        ]
    )


def _storage(quantization: Quantization) -> str:
    """How the layers are stored, in one line."""
    counts: dict[str, int] = {}
    for choice in quantization.layers.values():
        bits = f"{choice.bits} bits in groups of {choice.group_size}"
        name = bits if choice.mode == "affine" else choice.mode
        counts[name] = counts.get(name, 0) + 1
    if not counts:
        return "not quantised"
    parts = [f"{count} layers with {name}" for name, count in counts.items()]
    if quantization.kept:
        parts.append(f"{len(quantization.kept)} layers not quantised")
    return ", ".join(parts)


def licence_of(info: CheckpointInfo) -> str | None:
    """The licence that the source's own card states; None if it states none."""
    try:
        path = info.source.first(["README.md"])
    except CheckpointError:  # offline: the card works without it
        return None
    if path is None:
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    return stated_licence(text, ("license",))
