"""What `import moshi_mlx` gives and costs, what is installed, what is distributed."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import moshi_mlx
from moshi_mlx.cli import main as cli
from moshi_mlx.utils.extras import EXTRAS

ROOT = Path(__file__).parents[1]
PACKED = ("moshi_mlx", "moshi_mlx_start.py")
WHEEL_LIMIT = 30 * 2**20  # bytes
DEMO_LIMIT = 28e6  # of these, the demo's models and recordings
SDIST_LIMIT = 30 * 2**20


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_public_names():
    assert moshi_mlx.__all__ == [
        *("__version__", "audio", "errors"),
        *("load", "load_codec", "load_moshi", "load_stt", "load_text", "load_tts"),
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
FAST = "from moshi_mlx.linux_cpu import use_fast_products as fast\nprint([*fast()])"


@pytest.mark.parametrize("imports", ORDERS)
def test_linux_computes_with_openblas_and_others_with_their_own(imports: str):
    code = (
        f"{imports}\n"
        "from moshi_mlx.linux_cpu import use_fast_products, blas, slots\n"
        "paths = use_fast_products()\n"
        "if paths:\n"
        "    blas.install()\n"  # once more, which changes nothing
        "    from ctypes import CDLL, c_void_p, cast\n"
        "    openblas, products = map(CDLL, paths)\n"
        "    called = slots.slots('libmlx.so')['cblas_sgemm'].value\n"
        "    others = c_void_p.in_dll(products, 'other_sgemm').value\n"
        "    address = lambda function: cast(function, c_void_p).value\n"
        "    assert called == address(products.few_rows_sgemm)\n"
        "    assert others == address(openblas.scipy_cblas_sgemm)\n"
        "a = mx.arange(6.0, stream=mx.cpu).reshape(2, 3)\n"
        "print(bool(paths), mx.matmul(a, a.T, stream=mx.cpu).tolist())"
    )
    expected = f"{sys.platform == 'linux'} [[5.0, 14.0], [14.0, 50.0]]"
    assert python(code) == expected, "the extra `cpu` or a C compiler is missing"


MADE = {
    "nothing": "from moshi_mlx import models, modules, utils",
    "Lm": "from moshi_mlx.models.lm import Lm, LmConfig\n"
    "from moshi_mlx.models.presets import config_helium_1_preview_2b\n"
    "cfg = config_helium_1_preview_2b()\n"
    "cfg.transformer.num_layers = 1\n"
    "Lm(cfg)",
    "Mimi": "from moshi_mlx.models.mimi import Mimi, mimi_202407; Mimi(mimi_202407(1))",
}


@pytest.mark.skipif(sys.platform != "linux", reason="not on macOS: it has a fast BLAS")
@pytest.mark.parametrize("made", MADE)
def test_mlx_calls_other_products_only_once_a_model_is_built(made: str):
    code = (
        "import moshi_mlx\nfrom moshi_mlx.linux_cpu.slots import slots\n"
        "table = lambda: {name: at.value for name, at in slots('libmlx.so').items()"
        " if name.startswith('cblas')}\n"
        f"before = table()\n{MADE[made]}\n"
        "print(len(before) > 0, table() == before)"
    )
    assert python(code) == f"True {made == 'nothing'}"


SWITCHED_OFF = [(), ("OPENBLAS",), ("PRODUCTS",), ("OPENBLAS", "PRODUCTS")]


@pytest.mark.skipif(sys.platform != "linux", reason="not on macOS: it has a fast BLAS")
@pytest.mark.parametrize("off", SWITCHED_OFF, ids="+".join)
def test_each_of_the_two_has_a_switch_and_is_logged(off, monkeypatch):
    for name in off:
        monkeypatch.setenv(f"MOSHI_MLX_NO_{name}", "1")
    log = "import logging, sys; logging.basicConfig(level='INFO', stream=sys.stdout)\n"
    *told, found = python(log + FAST).splitlines()
    assert ("openblas" in found) == ("OPENBLAS" not in off)
    assert ("products-" in found) == ("PRODUCTS" not in off)
    assert sum("INFO:moshi_mlx.linux_cpu" in line for line in told) == 2 - len(off)


def test_mlx_keeps_its_own_blas_where_asked(monkeypatch):
    monkeypatch.setenv("MOSHI_MLX_NO_OPENBLAS", "1")
    monkeypatch.setenv("MOSHI_MLX_NO_PRODUCTS", "1")
    assert python(FAST) == "[]"


@pytest.mark.skipif(sys.platform != "linux", reason="not on macOS: it has a fast BLAS")
def test_without_a_c_compiler_openblas_does_all_the_work(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = python(FAST)
    assert "openblas" in found and "products" not in found


@pytest.mark.skipif(sys.platform != "linux", reason="not on macOS: it has a fast BLAS")
def test_the_first_start_says_what_it_compiles(monkeypatch, tmp_path):
    ask = "from moshi_mlx.linux_cpu import first_start; print(first_start())"
    assert python(f"{FAST}\n{ask}").splitlines()[-1] == "None"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "compiling kernels for this processor, once" in python(ask)
    monkeypatch.setenv("MOSHI_MLX_NO_PRODUCTS", "1")
    assert python(ask) == "None"


def test_without_mlx_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['mlx.core'] = None\n"
        "try:\n    import moshi_mlx\nexcept ImportError as error:\n    print(error)"
    )
    assert "pip install 'moshi_mlx[cpu]'" in python(code)


def extras() -> dict[str, str]:
    """The text of each extra in pyproject.toml (Python 3.10 has no tomllib)."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    return dict(re.findall(r"^(\w+) = (\[.*?\])$", table, re.MULTILINE | re.DOTALL))


IMPORTED_AS = {"pillow": "PIL"}


def test_an_extra_brings_what_the_code_says_it_does():
    told = extras()
    for extra, modules in EXTRAS.items():
        brought = re.findall(r'^\s*\[?"([\w-]+)', told[extra], re.MULTILINE)
        named = [str(IMPORTED_AS.get(n, n.replace("-", "_"))) for n in brought]
        assert sorted(named) == sorted(modules)
        assert extra in told["all"]


def test_the_lock_file_knows_every_dependency():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    asked = project.split("\ndependencies = [")[1].split("\n[project.scripts]")[0]
    named = re.findall(r'^ *(?:\w+ = \[)?"([\w-]+)', asked, re.MULTILINE)
    lock = (ROOT / "uv.lock").read_text(encoding="utf-8")
    own = lock.split('\nname = "moshi-mlx"\n')[1].split("\n[[package]]")[0]
    for name in {name.replace("_", "-").lower() for name in named}:
        assert f'name = "{name}"' in own, f"{name} is not locked: run 'uv lock'"


@pytest.mark.parametrize("absent", EXTRAS["serve"])
def test_a_command_that_lacks_an_extra_names_it_in_one_line(
    absent, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, absent, None)
    assert cli.main(["serve", "--model", "demo"]) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and absent in shown
    assert "pip install 'moshi_mlx[serve]'" in shown


def test_without_the_extras_everything_else_runs():
    """A plain install: the modules of every extra are hidden, the demo answers."""
    hidden = [name for modules in EXTRAS.values() for name in modules]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden}))\n"
        "import moshi_mlx, numpy as np\n"
        "session = moshi_mlx.load('demo').session(seed=0)\n"
        "print(session.step(np.zeros(1920, np.float32)).pcm is not None)\n"
        "from moshi_mlx.cli.main import COMMANDS, available, main\n"
        "sys.stdout = open('/dev/null', 'w')\n"
        "assert all(main([name, '--help']) == 0 for name in available())"
    )
    assert python(code) in ("True", "False")  # the first call may only fill delays


@pytest.mark.parametrize("name", cli.available())
def test_the_help_of_a_command_loads_nothing_that_takes_long(name):
    """At most 0.4 s: MLX's own 20 ms are most of what may be loaded."""
    heavy = ["numpy", "mlx.nn", "rich.live", "sphn", "sounddevice", "huggingface_hub"]
    code = (
        "import sys; from moshi_mlx.cli.main import main; out = sys.stdout\n"
        f"sys.stdout = open('/dev/null', 'w'); main(['{name}', '--help'])\n"
        f"print([name for name in {heavy} if name in sys.modules], file=out)"
    )
    assert python(code) == "[]"


def build(what: str, folder: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", what, "-d", folder],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    (path,) = folder.iterdir()
    return path


def tracked() -> list[str]:
    return subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *PACKED],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout.split()


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(tmp_path):
    path = build("wheel", tmp_path)
    with zipfile.ZipFile(path) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
        (commands,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
        assert "moshi-mlx = moshi_mlx_start:moshi_mlx" in wheel.read(commands).decode()
        (about,) = (n for n in wheel.namelist() if n.endswith("METADATA"))
        told = wheel.read(about).decode()
        sizes = {file.filename: file.compress_size for file in wheel.filelist}
    demo = sum(n for name, n in sizes.items() if name.startswith("moshi_mlx/demo/"))
    assert demo < DEMO_LIMIT
    assert sorted(names) == sorted(tracked())
    assert "moshi_mlx/py.typed" in names
    assert path.stat().st_size < WHEEL_LIMIT
    for name in ["Homepage", "Documentation", "Source", "Issues", "Changelog"]:
        assert f"Project-URL: {name}, https://" in told


def test_the_source_distribution_holds_the_package_and_no_tests(tmp_path):
    path = build("sdist", tmp_path)
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert set(tracked()) <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]
    assert {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml"} <= names
    assert path.stat().st_size < SDIST_LIMIT
