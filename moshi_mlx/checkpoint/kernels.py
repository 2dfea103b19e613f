"""How long a live frame takes on a GPU: computed from kernels, bytes and waits.

A large model's frame is limited by memory bandwidth, a small model's by the number of
kernels: the GPU starts them one after another, and each takes some microseconds,
however little it computes. The frame takes

    kernels x 4-6 microseconds + bytes / (0.7 x bandwidth) + waits

The kernels per layer and step are counted (scripts/count_kernels.py, in the forms that
run on a GPU). Microseconds, share of the bandwidth and waits are assumptions, until a
Mac measures them (scripts/mac_report).
"""

from dataclasses import dataclass

from ..models.lm import Lm

KERNEL_US = (4.0, 6.0)  # from one kernel's start to the next's, fast and slow; assumed
WAIT_MS = (0.1, 0.3)  # the processor's wait for the GPU; assumed
WAITS = 1  # per frame: all of it is started before anything is waited for
CODEC = 187 + 159  # encode and decode
TEMPORAL = 29  # embeddings, head, draw, streams
TEMPORAL_LAYER = 11
DEPTH_STEP = 9.5  # embedding, head, draw
DEPTH_LAYER = 8.9  # of one step
QUANTISED = 2  # more in each of them: residual sums, dequantised rows
KV_BITS = 7  # more in a temporal layer: keys and values are packed


@dataclass(frozen=True)
class FrameWork:
    """The work that one live frame gives a GPU.

    Attributes:
        kernels: number of kernels that it starts.
        nbytes: bytes of memory that it reads.
    """

    kernels: int
    nbytes: int

    def milliseconds(self, bytes_per_s: float) -> tuple[float, float]:
        """Shortest and longest time of the frame, at a bandwidth; computed.

        Args:
            bytes_per_s: that kernels attain, not the published one.
        """
        reading = 1000 * self.nbytes / bytes_per_s
        fast, slow = (
            self.kernels * us / 1000 + WAITS * wait
            for us, wait in zip(KERNEL_US, WAIT_MS, strict=True)
        )
        return reading + fast, reading + slow


def kernels(lm: Lm, *, quantised: bool, codec: bool = True) -> int | None:
    """Kernels of a live frame of one session; None for a model that was not counted.

    Args:
        quantised: whether the layers are, in any number of bits.
        codec: whether to include the codec's.
    """
    cfg = lm.cfg
    if cfg.transformer.cross_attention:
        return None
    more = QUANTISED * quantised
    layer = TEMPORAL_LAYER + more
    if cfg.transformer.kv_bits is not None:
        layer += KV_BITS
    count = TEMPORAL + more + layer * cfg.transformer.num_layers
    steps, depth = lm.dep_q, cfg.depformer.transformer.num_layers
    count += steps * (DEPTH_STEP + more / 2 + (DEPTH_LAYER + more * 0.75) * depth)
    return round(count) + CODEC * codec
