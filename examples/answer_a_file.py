"""Ask a recorded question, and keep the answer as a sound file.

python examples/answer_a_file.py [QUESTION.wav] [ANSWER.wav]
"""

import sys
from pathlib import Path

import numpy as np

import moshi_mlx

SHIPPED = Path(moshi_mlx.__file__).parent / "demo" / "questions" / "joke.wav"
TAIL_S = 5.0  # of silence after the question, in which Moshi answers

question = sys.argv[1] if len(sys.argv) > 1 else SHIPPED
answer = sys.argv[2] if len(sys.argv) > 2 else "answer.wav"

moshi = moshi_mlx.load("demo")  # or "kyutai/moshiko-mlx-q4", or a folder
session = moshi.session(seed=1)

frames = list(moshi_mlx.audio.frames(question))  # float32 [1920] each, 80 ms
silence = np.zeros(session.frame_size, np.float32)
frames += [silence] * round(TAIL_S / 0.08)

said = []
for frame in frames:
    reply = session.step(frame)
    print(reply.text, end="", flush=True)
    if reply.pcm is not None:  # None in the first frames, while the streams fill
        said.append(reply.pcm)
print()
moshi_mlx.audio.write_wav(answer, np.concatenate(said), moshi_mlx.audio.SAMPLE_RATE)
