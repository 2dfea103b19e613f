"""The frame of the command line: listing, errors, exit codes. Real processes."""

import errno
import os
import subprocess
import sys
import types

import pytest
import typer

from moshi_mlx.cli import main as cli
from moshi_mlx.cli.main import COMMANDS, available
from moshi_mlx.errors import CheckpointError


def run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "moshi_mlx", *args],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", **environment},
    )


def test_help_lists_the_commands_that_exist_and_no_others():
    done = run("--help")
    assert done.returncode == 0 and not done.stderr
    words = done.stdout.split()
    for name in COMMANDS:
        assert (name in words) == (name in available())


def test_version():
    assert run("--version").stdout == "moshi_mlx 0.4.0\n"


@pytest.mark.parametrize("name", available())
def test_every_command_shows_examples_of_itself(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"moshi-mlx {name}" in shown.split("Examples:")[1]
    assert "<bool>" not in shown and "[[" not in shown


def test_listing_loads_no_command_and_no_heavy_package():
    heavy = ["numpy", "sounddevice", "sphn", "fastapi", "sentencepiece"]
    heavy += [f"moshi_mlx.cli.{name}" for name in COMMANDS]
    code = (
        "import sys; from moshi_mlx.cli.main import main; code = main(['--help'])\n"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_an_unknown_command_is_a_usage_error():
    done = run("respnod")
    assert done.returncode == 2
    assert "respnod" in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def command(monkeypatch):
    """Installs a command `try`, whose body the test gives; returns how to call it."""

    def install(body):
        module = types.ModuleType("moshi_mlx.cli.try")

        def attempt(
            word: str,
            times: int = typer.Option(1, min=1),
            share: float = typer.Option(0.5, min=0),
        ) -> None:
            """Do as the test says."""
            body(word, times)

        vars(module).update({"try": attempt, "EXAMPLES": "moshi-mlx try HARD"})
        monkeypatch.setitem(cli.COMMANDS, "try", ("Tests", "Try."))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(cli, "available", lambda: ["try"])
        return lambda *args: cli.main(["try", *args])

    return install


def test_arguments_reach_the_command(command):
    heard = []
    assert command(lambda *given: heard.append(given))("hard", "--times", "3") == 0
    assert heard == [("hard", 3)]


def test_an_error_that_the_user_can_mend_is_one_line(command, capsys):
    def fail(word, times):
        raise CheckpointError(f"no model '{word}':\n  check the name.")

    assert command(fail)("x") == 1
    assert capsys.readouterr().err == "Error: no model 'x': check the name.\n"


def test_an_error_of_ours_keeps_its_traceback(command):
    def fail(word, times):
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        command(fail)("x")


def test_a_full_disk_is_one_line(command, capsys):
    def fail(word, times):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert command(fail)("x") == 1
    err = capsys.readouterr().err
    assert "disk is full" in err and err.count("\n") == 1


def test_what_the_system_refuses_is_one_line(command, capsys):
    def fail(word, times):
        raise PermissionError(errno.EACCES, "Permission denied", "a\x1b[2Jb.wav")

    assert command(fail)("x") == 1
    err = capsys.readouterr().err
    assert err.endswith("b.wav': permission denied.\n") and err.count("\n") == 1
    assert "\x1b" not in err


@pytest.mark.skipif(os.name == "nt", reason="not on Windows, whose numbers differ")
def test_closed_streams_are_no_place_for_files():
    code = (
        "import os, sys; from moshi_mlx.cli.streams import open_streams\n"
        "for number in range(3): os.close(number)\n"
        "sys.stdin = sys.stdout = sys.stderr = None; open_streams()\n"
        "print('nobody reads it', sys.stdin.read(), flush=True)\n"
        "sys.exit(0 if os.open(os.devnull, os.O_RDONLY) > 2 else 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"")


def test_ctrl_c_ends_with_130(command):
    def fail(word, times):
        raise KeyboardInterrupt

    assert command(fail)("x") == 130


@pytest.mark.parametrize("program", ["moshi_mlx", "local", "local_web"])
@pytest.mark.parametrize("module", ["moshi_mlx", "mlx.core", "typer"])
def test_ctrl_c_while_the_program_loads_is_quiet(program, module):
    code = (
        "import os, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        f"from moshi_mlx_start import {program}\n"
        f"sys.exit({program}())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_without_mlx_the_programs_say_what_to_install_in_one_line():
    code = (
        "import sys; sys.modules['mlx.core'] = None\n"
        "from moshi_mlx_start import moshi_mlx; sys.exit(moshi_mlx())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: moshi_mlx cannot load MLX")
    assert "pip install 'moshi_mlx[cpu]'" in done.stderr


def test_ctrl_c_stays_ignored_where_a_shell_has_it_so():
    code = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from moshi_mlx_start import moshi_mlx\n"
        "sys.argv = ['moshi-mlx', '--version']; code = moshi_mlx()\n"
        "os.kill(os.getpid(), signal.SIGINT); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "args",
    [
        *((), ("x", "--times", "0"), ("x", "--times", "many"), ("x", "--tmies", "2")),
        *(("x", "--share", "inf"), ("x", "--share", "nan"), ("x", "--share", "-1")),
    ],
)
def test_wrong_arguments_end_with_2(command, capsys, args):
    assert command(lambda *_: pytest.fail("the command ran"))(*args) == 2
    assert "Usage:" in capsys.readouterr().err


def test_an_entry_module_runs_a_command_under_its_own_name(command, capsys):
    command(lambda *_: None)
    assert cli.run_command("try", ["--help"], "python -m moshi_mlx.old") == 0
    assert "python -m moshi_mlx.old" in capsys.readouterr().out


def test_a_warning_of_the_library_is_one_line(command, capsys):
    import logging

    def warn(word, times):
        logging.getLogger("moshi_mlx.checkpoint").warning("unknown key '%s'", word)

    assert command(warn)("x") == 0
    assert capsys.readouterr().err == "Warning: unknown key 'x'\n"
