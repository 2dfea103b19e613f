"""Speech for nano Moshi, by free voices (apt: flite festival festvox-* espeak-ng sox).

    python synthesise.py assistant            -> data/moshi.npz: flite's slt
    python synthesise.py users SPLIT N SEED   -> data/users_SPLIT_SEED.npz

``users`` asks every question N times, each time in a random voice of the split, at a
random pitch and tempo. Splits: ``train``; ``train_more``, 75 further voices at wider
pitch; ``heldout_prosody``, training voices in renditions of their own;
``heldout_voice``, voices that are in no other split.
"""

import argparse
import random
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from intents import EXTRA, GREETING, INTENTS
from shards import DATA, SAMPLE_RATE, Utterance, read_wav, save

Voice = tuple[str, str]  # engine and its name of the voice
Job = dict[str, Any]  # engine, voice, text, tempo, pitch; all of it is kept as metadata

FESTIVAL = {
    "kal": "voice_kal_diphone",
    "ked": "voice_ked_diphone",
    "hts": "voice_cmu_us_slt_arctic_hts",
}
US = ["m1", "m3", "m7", "f1", "f2", "f5", "klatt2", "adam", "linda", "steph"]
GB = ["m2", "f3", "klatt4", "max"]
TRAIN: list[Voice] = [
    *[("flite", voice) for voice in ("rms", "awb", "kal16", "rms", "awb", "slt")],
    *[("festival", "hts"), ("festival", "kal")],
    *[("espeak", f"en-us+{variant}") for variant in US],
    *[("espeak", f"en-gb+{variant}") for variant in GB],
]
_MORE = """
    Alicia Andrea anika Annie aunty caleb david ed edward Gene grandma grandpa Henrique
    iven Jacky john Lee marcelo Mario Michael miguel Mike pablo pedro quincy rob robert
    sandro shelby steph2 travis victor zac m4 m6 m8 f1 f3
"""
ACCENTS = ("en-gb", "en-gb-scotland", "en-gb-x-rp")
TRAIN_MORE: list[Voice] = [
    *[
        ("espeak", f"{accent}+{variant}")
        for i, variant in enumerate(_MORE.split())
        for accent in ("en-us", ACCENTS[i % 3])
    ],
    *[("flite", voice) for voice in ("rms", "awb", "kal16", "slt")] * 6,
    *[("festival", "hts"), ("festival", "kal")] * 3,
]
HELDOUT: list[Voice] = [
    ("festival", "ked"),
    ("espeak", "en-us+f4"),
    ("espeak", "en-us+m5"),
    ("espeak", "en-gb+belinda"),
    ("espeak", "en-us+paul"),
]
SPLITS = {
    "train": TRAIN,
    "train_more": TRAIN_MORE,
    "heldout_prosody": TRAIN,
    "heldout_voice": HELDOUT,
}
SHORTEST_S, LONGEST_S = 0.15, 8.0
PARALLEL = 2  # synthesisers at once


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _speak(job: Job, raw: Path) -> list[str]:
    """Have the engine write ``raw``; returns the sox effects that are still to do."""
    engine, voice, text = job["engine"], job["voice"], job["text"]
    if engine == "espeak":
        speed = ["-s", str(int(150 * job["tempo"])), "-p", str(50 + job["pitch"] // 8)]
        _call("espeak-ng", "-v", voice, *speed, "-w", str(raw), text)
        return []
    if engine == "flite":
        _call("flite", "-voice", voice, "-t", text, "-o", str(raw))
    else:
        _call(
            "festival",
            "-b",
            f"({FESTIVAL[voice]})",
            f'(set! u (utt.synth (Utterance Text "{text}")))',
            f'(utt.save.wave u "{raw}")',
        )
    effects = ["pitch", str(job["pitch"])] if job["pitch"] else []
    if abs(job["tempo"] - 1) > 0.01:
        effects += ["tempo", "-s", f"{job['tempo']:.3f}"]
    return effects


def synthesise(job: Job, folder: Path, number: int) -> Utterance | None:
    """Say the job's text: peak-normalised, silence trimmed; None where it failed."""
    raw, path = folder / f"{number}.raw.wav", folder / f"{number}.wav"
    trim = ["silence", "1", "0.01", "0.5%", "reverse"] * 2
    form = ["-r", str(SAMPLE_RATE), "-c", "1", "-b", "16"]
    try:
        effects = _speak(job, raw)
        _call("sox", str(raw), *form, str(path), *effects, *trim, "gain", "-n", "-4")
    except subprocess.CalledProcessError as error:
        print("failed", job, error.stderr[-200:])
        return None
    wav = read_wav(path)
    raw.unlink()
    path.unlink()
    fits = SHORTEST_S < len(wav) / SAMPLE_RATE < LONGEST_S
    return Utterance(wav, job) if fits else None


def build(jobs: list[Job], out: Path) -> None:
    """Say all jobs and write those that succeeded."""
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(PARALLEL) as pool:
        folder = Path(name)
        said = pool.map(
            lambda numbered: synthesise(numbered[1], folder, numbered[0]),
            enumerate(jobs),
        )
        save(out, [utterance for utterance in said if utterance is not None])


def assistant_jobs() -> list[Job]:
    """The assistant's answers, and other sentences in its voice for the codec."""
    base = {"engine": "flite", "voice": "slt", "tempo": 1.0, "pitch": 0}
    answers = {"greeting": GREETING} | {name: a for name, (a, _) in INTENTS.items()}
    others = [question for _, asked in INTENTS.values() for question in asked] + EXTRA
    return [
        *[
            base | {"kind": "answer", "intent": k, "text": a}
            for k, a in answers.items()
        ],
        *[base | {"kind": "other", "text": text} for text in others],
    ]


def user_jobs(split: str, times: int, seed: int) -> list[Job]:
    """Every question ``times`` times, in random voices of the split."""
    rng = random.Random(f"{split}{seed}")
    wide = 450 if split == "train_more" else 250  # cents
    jobs = []
    for _ in range(times):
        for intent, (_, asked) in INTENTS.items():
            for number, question in enumerate(asked):
                engine, voice = rng.choice(SPLITS[split])
                pitch = rng.randint(-wide, wide)
                pitch += 300 if voice == "slt" else 0  # away from the assistant's
                tempo = round(rng.uniform(0.85, 1.2), 3)
                job = {"engine": engine, "voice": voice, "kind": "user"}
                job |= {"intent": intent, "para": number, "text": question}
                jobs.append(job | {"tempo": tempo, "pitch": pitch})
    rng.shuffle(jobs)
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    who = parser.add_subparsers(dest="who", required=True)
    who.add_parser("assistant")
    users = who.add_parser("users")
    users.add_argument("split", choices=SPLITS)
    users.add_argument("times", type=int)
    users.add_argument("seed", type=int)
    args = parser.parse_args()
    DATA.mkdir(exist_ok=True)
    if args.who == "assistant":
        build(assistant_jobs(), DATA / "moshi.npz")
    else:
        out = DATA / f"users_{args.split}_{args.seed}.npz"
        build(user_jobs(args.split, args.times, args.seed), out)


if __name__ == "__main__":
    main()
