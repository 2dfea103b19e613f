"""Ask a recorded question; keep the answer as a sound file and as a report.

python examples/answer_a_file.py [QUESTION.wav] [ANSWER.wav]
"""

import sys
from pathlib import Path

import moshi_mlx

SHIPPED = Path(moshi_mlx.__file__).parent / "demo" / "questions" / "joke.wav"


def main(question: str | Path, answer: str | Path) -> None:
    moshi = moshi_mlx.load("demo")  # or "kyutai/moshiko-mlx-q4", or a folder
    response = moshi.respond(
        question,
        answer,
        report=Path(answer).with_suffix(".html"),
        seed=1,
        on_reply=lambda reply: print(reply.text, end="", flush=True),
    )
    print()
    for word in response.words[:3]:
        print(f"{word.start_s:.2f} s: {word.text}")


if __name__ == "__main__":
    main(
        sys.argv[1] if len(sys.argv) > 1 else SHIPPED,
        sys.argv[2] if len(sys.argv) > 2 else "answer.wav",
    )
