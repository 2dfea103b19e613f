"""A voice agent: it listens, thinks by a few rules, speaks, and talks with itself.

python examples/voice_agent.py [MODEL] [TURNS]

What it says goes, frame by frame, to its own ear; a microphone and a loudspeaker would
stand in between. MODEL is a folder that holds a model that listens and one that speaks
(stt.json, tts.json); by default it is the demo that comes with the package. ``hub``
stands for Kyutai's two, which are fetched. Replace ``answer`` by a language model of
yours.
"""

import argparse
import sys

import moshi_mlx
from moshi_mlx.engines.stt import STTModel, Word
from moshi_mlx.engines.tts import TTSModel
from moshi_mlx.errors import MoshiError

HUB = "kyutai/stt-1b-en_fr-candle", "kyutai/tts-1.6b-en_fr"
GREETING = "Hello! How can I help you today?"
RULES = {  # words that are heard, all of them: what is answered
    ("help",): "What is the capital of France?",
    ("capital", "what"): "The capital of France is Paris.",
    ("paris",): "Tell me a joke.",
    ("joke",): "Why did the robot go on holiday? To recharge its batteries!",
    ("holiday",): "Goodbye! Have a nice day.",
    ("goodbye",): GREETING,
}
LOST = "What did you say?"


def answer(heard: str) -> str:
    """What to say to a sentence: the first rule whose words are all in it."""
    words = "".join(c for c in heard.lower() if c.isalpha() or c == " ").split()
    replies = (reply for key, reply in RULES.items() if set(key) <= set(words))
    return next(replies, LOST)


def listen(stt: STTModel, tts: TTSModel, sentence: str) -> str:
    """What is heard of a sentence while it is spoken."""
    with stt.session() as ear:
        events = []
        for frame in tts.stream([sentence], seed=0):  # the same sound every time
            events += ear.feed(frame)  # and to a loudspeaker
        events += ear.flush()
    return " ".join(event.text for event in events if isinstance(event, Word))


def main(model: str, turns: int) -> None:
    hearing, speaking = HUB if model == "hub" else (model, model)
    stt, tts = moshi_mlx.load_stt(hearing), moshi_mlx.load_tts(speaking)
    sentence = GREETING
    for turn in range(1, turns + 1):
        heard = listen(stt, tts, sentence)
        print(f"{turn}. says:   {sentence}\n   hears:  {heard}")
        sentence = answer(heard)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    where = "folder of a model that listens and one that speaks, or: hub"
    parser.add_argument("model", nargs="?", default="demo", metavar="MODEL", help=where)
    many = "how many sentences it says (%(default)s)"
    parser.add_argument(
        "turns", nargs="?", default=5, type=int, metavar="TURNS", help=many
    )
    args = parser.parse_args()
    try:
        main(args.model, args.turns)
    except MoshiError as error:
        sys.exit(f"voice_agent: {error}")
