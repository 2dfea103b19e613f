"""`moshi-mlx respond`: a sound file in, the model's answer out."""

import logging
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .console import RawPrinter, log_to_stderr, status
from .outputs import check_outputs, print_json

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = """
moshi-mlx respond --model demo question.wav reply.wav
moshi-mlx respond --model kyutai/moshika-mlx-q4 question.mp3 reply.wav --seed 7
moshi-mlx respond --model demo question.wav --recording talk.wav --report talk.html
moshi-mlx respond --model kyutai/hibiki-1b-mlx-bf16 french.wav english.wav
"""


def respond(
    infile: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="The question: a sound file of any format and sample rate; - is "
            "standard input.",
        ),
    ],
    outfile: Annotated[
        Path | None,
        typer.Argument(metavar="OUT.wav", help="Where to write the answer."),
    ] = None,
    model: options.Model = None,
    recording: Annotated[
        Path | None,
        typer.Option(
            "--recording",
            metavar="FILE.wav",
            help="Save both voices (user left, Moshi right), and the text with times "
            "as FILE.json, FILE.txt and FILE.srt.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE.html",
            help="Write one page with both waveforms, each word at its time, and the "
            "timing.",
        ),
    ] = None,
    tail: Annotated[
        float,
        typer.Option(
            "--tail",
            min=0.0,
            metavar="SECONDS",
            help="Longest silence to add after the recording, so that Moshi can "
            "finish.",
        ),
    ] = 10.0,
    codec: options.Codec = options.Engine.native,
    seed: options.Seed = None,
    temp: options.Temperature = None,
    text_temperature: options.TextTemperature = None,
    audio_temperature: options.AudioTemperature = None,
    text_topk: options.TextTopK = None,
    audio_topk: options.AudioTopK = None,
    cfg_coef: options.Guidance = None,
    quantized: options.Quantized = None,
    kv_bits: options.KvBits = None,
    moshi_weights: options.MoshiWeights = None,
    mimi_weights: options.MimiWeights = None,
    tokenizer: options.Tokenizer = None,
    lm_config: options.LmConfigFile = None,
    json_: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Answer a recorded question, frame by frame as in a live conversation.

    Moshi answers, Hibiki translates, and a speech-to-text model transcribes. The text
    is printed while it is generated. If you stop with Ctrl-C, the files hold everything
    up to the last frame.
    """
    from ..audio import frames
    from ..checkpoint.info import CheckpointInfo
    from ..checkpoint.memory import fitting_moshi
    from ..engines.duplex.engine import load
    from ..engines.duplex.files import respond as run
    from ..utils.sampling import new_seed
    from ..utils.trace import Trace

    sound = {"OUT.wav": outfile, "--recording": recording}
    check_outputs(infile, {"--report": report}, sound)
    heard = frames(infile)  # a file that is none is said before anything is loaded
    printer = RawPrinter()
    if verbose:
        log_to_stderr(logging.INFO)
    name = model or fitting_moshi()
    with status(f"loading {name}"):
        info = CheckpointInfo.find(
            name,
            config=lm_config,
            moshi_weights=moshi_weights,
            mimi_weights=mimi_weights,
            tokenizer=tokenizer,
            bits=quantized,
            kv_bits=kv_bits,
        )
        moshi = load(info=info, codec=codec.value, quantize=quantized)
        moshi.warmup()
    seed = new_seed() if seed is None else seed
    trace = Trace()
    session = moshi.session(
        seed,
        cfg_coef=cfg_coef,
        **options.sampling(
            temp, text_temperature, audio_temperature, text_topk, audio_topk
        ),
        trace=trace,
    )
    answer = WrittenAnswer(infile, name, seed, report)
    with ExitStack() as stack:
        answer.open(stack, outfile, recording)
        if report is not None:
            report.unlink(missing_ok=True)  # it told of sound that is gone now
        # also after Ctrl-C, of what was answered so far
        stack.callback(answer.finish, time.perf_counter(), trace, json_)
        for exchange in run(session, heard, moshi, tail_s=tail):
            answer.add(exchange)
            if not json_:
                printer.print_token(exchange.reply.text)


class WrittenAnswer:
    """What came of a recording: its files, its words and how long they took.

    Args:
        report: the page to write; only for it is the sound kept in memory.
    """

    def __init__(self, infile: Path, model: str, seed: int, report: Path | None):
        self.summary: dict[str, Any] = {
            "input": str(infile),
            "model": model,
            "seed": seed,
            "text": "",
        }
        self._report = report
        self._frames = 0
        self._heard: list[np.ndarray] = []
        self._said: list[np.ndarray | None] = []
        self._pieces: list[Any] = []
        self._voice = None
        self._recording = None

    def open(
        self, stack: ExitStack, outfile: Path | None, recording: Path | None
    ) -> None:
        """Open the files that were asked for."""
        from ..audio import SAMPLE_RATE, WavWriter
        from ..documents.recording import Recording

        if outfile is not None:
            self._voice = stack.enter_context(WavWriter(outfile, 1, SAMPLE_RATE))
            self.summary["output"] = str(outfile)
        if recording is not None:
            about = {key: self.summary[key] for key in ("input", "model", "seed")}
            self._recording = stack.enter_context(Recording(recording, about=about))
            self.summary["recording"] = str(recording)

    def add(self, exchange: Any) -> None:
        """Take one frame of both sides."""
        from ..audio import FRAME, SAMPLE_RATE
        from ..documents.transcript import Timed

        reply = exchange.reply
        start_s = self._frames * FRAME / SAMPLE_RATE
        self._frames += 1
        if self._report is not None:
            self._heard.append(exchange.heard)
            self._said.append(reply.pcm)
        if reply.text:
            end_s = start_s + FRAME / SAMPLE_RATE
            self._pieces.append(Timed(reply.text, start_s, end_s))
            self.summary["text"] += reply.text
        if self._voice is not None and reply.pcm is not None:
            self._voice.write(reply.pcm)
        if self._recording is not None:
            self._recording.add(exchange.heard, reply.pcm, reply.text)

    def finish(self, started: float, trace: Any, as_json: bool) -> None:
        """Write the report and say how it went."""
        self._sum_up(time.perf_counter() - started, trace)
        if self._report is not None and self._heard:
            self._write_report(self._report, trace)
        if as_json:
            print_json("respond", self.summary)
        else:
            print(flush=True)
            print(self._timing(), file=sys.stderr)

    def _sum_up(self, wall_s: float, trace: Any) -> None:
        """Words and timing."""
        from ..audio import FRAME, SAMPLE_RATE
        from ..documents.transcript import words

        audio_s = self._frames * FRAME / SAMPLE_RATE
        self.summary |= {
            "text": self.summary["text"].strip(),
            "words": [_rounded(word) for word in words(self._pieces)],
            "frames": self._frames,
            "audio_s": round(audio_s, 3),
            "wall_s": round(wall_s, 3),
            "times_real_time": round(audio_s / wall_s, 2) if wall_s else 0.0,
            "stages_ms": {
                name: {"p50": round(t.p50_ms, 2), "p95": round(t.p95_ms, 2)}
                for name, t in trace.summary().items()
            },
        }

    def _timing(self) -> str:
        """The summary in a line for people."""
        stages = ", ".join(
            f"{name} {ms['p50']:.1f} / {ms['p95']:.1f} ms"
            for name, ms in self.summary["stages_ms"].items()
        )
        return (
            "{audio_s:.1f} s of sound in {wall_s:.1f} s ({times_real_time:.1f} x real "
            "time); p50 / p95 a frame: {stages}; seed {seed}"
        ).format(**{**self.summary, "stages": stages})

    def _write_report(self, path: Path, trace: Any) -> None:
        """The page with waveforms, text and latencies."""
        import numpy as np

        from ..documents.report import write_report

        silence = np.zeros_like(self._heard[0])
        said = [silence if pcm is None else pcm for pcm in self._said]
        facts = {key: self.summary[key] for key in ("model", "seed")}
        write_report(
            path,
            np.stack([np.concatenate(self._heard), np.concatenate(said)]),
            title=f"{self.summary['model']} answers {Path(self.summary['input']).name}",
            pieces=self._pieces,
            frame_ms=trace.durations_ms("frame"),
            stages=trace.summary(),
            facts=facts,
        )
        self.summary["report"] = str(path)


def _rounded(word: Any) -> dict[str, Any]:
    times = {"start_s": round(word.start_s, 3), "end_s": round(word.end_s, 3)}
    return {"text": word.text, **times}
