"""What quantising costs in quality and saves in size: as rows, page and card."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..checkpoint.cost import Cost
from ..checkpoint.quality import Quality
from . import charts

HEAD = (
    *("recipe", "bits per\nweight", "size", "read per\nstep"),
    *("text\nKL", "text top-1", "audio\nKL", "audio top-1"),
)
NOTE = (
    "KL is the mean divergence from full precision in nats (0: the same predictions), "
    "top-1 how often the likeliest token is the same; teacher-forced on {recordings}."
)


@dataclass(frozen=True)
class Measured:
    """The result of one recipe."""

    recipe: str
    cost: Cost
    quality: Quality

    def to_json(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe,
            "bits_per_weight": self.cost.bits_per_weight,
            "bytes": self.cost.nbytes,
            "step_bytes": self.cost.step_bytes,
            **self.quality.to_json(),
        }

    def row(self) -> list[str]:
        """Cells for ``HEAD``."""
        quality = self.quality
        audio_kl, audio_top1 = quality.audio_kl, quality.audio_top1
        return [
            self.recipe,
            f"{self.cost.bits_per_weight:.2f}",
            f"{self.cost.nbytes / 1e6:,.1f} MB",
            f"{self.cost.step_bytes / 1e6:,.1f} MB",
            f"{quality.text.kl:.2g}",
            f"{100 * quality.text.top1:.1f} %",
            "-" if audio_kl is None else f"{audio_kl:.2g}",
            "-" if audio_top1 is None else f"{100 * audio_top1:.1f} %",
        ]


def quality_page(name: str, recordings: str, measured: Sequence[Measured]) -> str:
    """The comparison as one HTML page: table, and divergence of every stream."""
    parts = [charts.table(HEAD, [m.row() for m in measured])]
    sizes = {m.recipe: m.cost.nbytes / 1e6 for m in measured}
    parts.append(charts.bars("Size", sizes, "MB"))
    most = max((s.kl for m in measured for s in m.quality.streams), default=0)
    for m in measured:
        kl = {stream.name: stream.kl for stream in m.quality.streams}
        parts.append(
            charts.bars(f"{m.recipe}: divergence of each stream", kl, "nats", top=most)
        )
    title = f"{name}, quantised"
    return charts.page(title, NOTE.format(recordings=recordings), parts)
