"""`moshi-mlx bench --predict`: a frame's time on Apple's chips, computed."""

import json
from typing import TYPE_CHECKING

from .chips import milliseconds

if TYPE_CHECKING:
    from ..checkpoint.info import CheckpointInfo


def bench_predict(
    info: "CheckpointInfo | None",
    sizes: list[str],
    bits: list[str],
    kv_bits: int | None,
    as_json: bool,
) -> None:
    """Print the times of a checkpoint, or of random models."""
    from ..bench.prediction import predict_checkpoint, predict_sizes

    if info is None:
        found = list(predict_sizes(sizes, bits, kv_bits))
    else:
        found = [predict_checkpoint(info)]
    if as_json:
        print(json.dumps({"predictions": [each.to_json() for each in found]}))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table("chip", box=SIMPLE_HEAD, pad_edge=False)
    for each in found:
        table.add_column(f"{each.model} {each.bits}", justify="right")
    for chips in zip(*(each.chips for each in found), strict=True):
        times = (milliseconds(reach.frame_ms) for reach in chips)
        table.add_row(chips[0].chip.name, *times)
    console = Console()
    console.print(
        "Milliseconds a frame takes late in a conversation: computed, not measured. "
        "Live sound needs less than 80."
    )
    console.print(table)
    for each in found:
        console.print(
            f"{each.model} {each.bits}: {each.kernels or 'unknown'} kernels, "
            f"{each.nbytes / 1e9:.2f} GB read"
        )
