"""What `import moshi_mlx` gives, what it costs, and what the wheel carries."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import moshi_mlx

ROOT = Path(__file__).parents[1]
PACKED = ("moshi_mlx", "moshi_mlx_start.py")
WHEEL_LIMIT = 20 * 2**20  # bytes


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_public_names():
    assert moshi_mlx.__all__ == [
        *("__version__", "audio", "load", "load_stt", "load_tts"),
        *("models", "modules", "utils"),
    ]
    assert set(moshi_mlx.__all__) <= set(dir(moshi_mlx))
    assert moshi_mlx.audio.__all__ == [
        *("FRAME", "SAMPLE_RATE", "Framer", "PlaybackRing", "Resampler", "WavWriter"),
        *("frames", "read", "resample", "write_wav"),
    ]


@pytest.mark.parametrize("name", [n for n in moshi_mlx.__all__ if n != "__version__"])
def test_every_public_name_loads(name):
    assert getattr(moshi_mlx, name)


def test_a_name_that_is_none_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'moshi_mlx' has no attribute 'lode'"):
        _ = moshi_mlx.lode  # pyright: ignore[reportAttributeAccessIssue]


def test_the_version_is_that_of_the_project():
    assert f'\nversion = "{moshi_mlx.__version__}"\n' in (
        ROOT / "pyproject.toml"
    ).read_text(encoding="utf-8")


def test_importing_loads_mlx_and_nothing_heavy():
    code = (
        "import sys, mlx.core; before = set(sys.modules); import moshi_mlx\n"
        "print({name.split('.')[0] for name in set(sys.modules) - before}"
        " - set(sys.stdlib_module_names))"
    )
    assert python(code) == "{'moshi_mlx'}"


def test_importing_the_networks_needs_no_audio_or_network_package():
    heavy = ["sounddevice", "sphn", "fastapi", "huggingface_hub", "sentencepiece"]
    code = (
        "import sys; from moshi_mlx import models, modules, utils\n"
        "from moshi_mlx.models import mimi, lm\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert python(code) == "[]"


ORDERS = ["import moshi_mlx, mlx.core as mx", "import mlx.core as mx, moshi_mlx"]


@pytest.mark.parametrize("imports", ORDERS)
def test_linux_computes_with_openblas_and_others_with_their_own(imports: str):
    code = (
        f"{imports}\n"
        "from moshi_mlx import _blas\n"
        "paths = _blas.install()\n"  # once more, which changes nothing
        "if paths:\n"
        "    from ctypes import CDLL, c_void_p, cast\n"
        "    openblas, products = map(CDLL, paths)\n"
        "    called = _blas.slots('libmlx.so')['cblas_sgemm'].value\n"
        "    others = c_void_p.in_dll(products, 'other_sgemm').value\n"
        "    address = lambda function: cast(function, c_void_p).value\n"
        "    assert called == address(products.few_rows_sgemm)\n"
        "    assert others == address(openblas.scipy_cblas_sgemm)\n"
        "a = mx.arange(6.0, stream=mx.cpu).reshape(2, 3)\n"
        "print(bool(paths), mx.matmul(a, a.T, stream=mx.cpu).tolist())"
    )
    expected = f"{sys.platform == 'linux'} [[5.0, 14.0], [14.0, 50.0]]"
    assert python(code) == expected, "the extra `cpu` or a C compiler is missing"


def test_mlx_keeps_its_own_blas_where_asked(monkeypatch):
    monkeypatch.setenv("MOSHI_MLX_NO_OPENBLAS", "1")
    assert python("from moshi_mlx import _blas; print(_blas.install())") == "[]"


@pytest.mark.skipif(sys.platform != "linux", reason="macOS brings a fast BLAS")
def test_without_a_c_compiler_openblas_does_all_the_work(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = python("from moshi_mlx import _blas; print(_blas.install())")
    assert "openblas" in found and "products" not in found


def test_without_mlx_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['mlx.core'] = None\n"
        "try:\n    import moshi_mlx\nexcept ImportError as error:\n    print(error)"
    )
    assert "pip install 'moshi_mlx[cpu]'" in python(code)


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    (path,) = tmp_path.iterdir()
    with zipfile.ZipFile(path) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
        (commands,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
        assert "moshi-mlx = moshi_mlx_start:moshi_mlx" in wheel.read(commands).decode()
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *PACKED],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout.split()
    assert sorted(names) == sorted(tracked)
    assert "moshi_mlx/py.typed" in names
    assert path.stat().st_size < WHEEL_LIMIT
