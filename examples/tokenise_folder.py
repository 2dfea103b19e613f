"""Turn a folder of sound files into codes with Mimi, and the codes into sound again.

python examples/tokenise_folder.py [FOLDER] [OUT]

Writes OUT/NAME.npz (codes [K, T], 12.5 frames a second) and OUT/NAME.wav for each file.
The codec is the demo's small one; load_codec("kyutai/mimi") brings the full one.
"""

import sys
from pathlib import Path

import moshi_mlx
from moshi_mlx.errors import AudioError

SHIPPED = Path(moshi_mlx.__file__).parent / "demo" / "questions"


def main(folder: Path, out: Path) -> None:
    codec = moshi_mlx.load_codec("demo")
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        kept = out / f"{path.stem}.npz"
        try:
            codes = codec.encode_file(path, kept)  # int32 [K, T]
        except AudioError as error:  # not a sound file, or a damaged one
            print(f"left out: {error}")
            continue
        codec.decode_file(kept, out / f"{path.stem}.wav")
        print(f"{path.name}: codes {list(codes.shape)}, {kept.stat().st_size} bytes")


if __name__ == "__main__":
    main(
        Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED,
        Path(sys.argv[2]) if len(sys.argv) > 2 else Path("codes"),
    )
