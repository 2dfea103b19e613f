"""Turn a folder of sound files into codes with Mimi, and the codes into sound again.

python examples/tokenise_folder.py [FOLDER] [OUT]

Writes OUT/NAME.npz (codes [K, T], 12.5 frames a second) and OUT/NAME.wav for each file.
The codec is the demo's small one; `load("kyutai/moshiko-mlx-q4")` brings the full one.
"""

import sys
from pathlib import Path

import mlx.core as mx
import numpy as np

from moshi_mlx.audio import read, write_wav
from moshi_mlx.checkpoint.build import load_mimi
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.errors import AudioError

SHIPPED = Path(__file__).parents[1] / "moshi_mlx" / "demo" / "questions"


def main(folder: Path, out: Path) -> None:
    info = CheckpointInfo.find("demo")
    mimi = load_mimi(info, info.num_codebooks)
    rate = int(mimi.sample_rate)
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        try:
            pcm = read(path, rate)  # [1, S]
        except AudioError as error:  # not a sound file, or a damaged one
            print(f"left out: {error}")
            continue
        codes = mimi.encode(mx.array(pcm)[None])  # [1, 1, S] -> [1, K, T]
        np.savez_compressed(out / f"{path.stem}.npz", codes=np.array(codes[0]))

        again = np.load(out / f"{path.stem}.npz")["codes"]
        sound = np.array(mimi.decode(mx.array(again)[None])[0, 0])  # [1, 1, S] -> [S]
        write_wav(out / f"{path.stem}.wav", sound, rate)
        seconds = pcm.shape[1] / rate
        size = (out / f"{path.stem}.npz").stat().st_size
        print(f"{path.name}: {seconds:.1f} s, codes {list(again.shape)}, {size} bytes")


if __name__ == "__main__":
    main(
        Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED,
        Path(sys.argv[2]) if len(sys.argv) > 2 else Path("codes"),
    )
