import signal
import socket
import subprocess
import sys
import urllib.request
from types import SimpleNamespace

import pytest

from moshi_mlx.checkpoint.kinds import kind_of
from moshi_mlx.cli.addresses import Addresses
from moshi_mlx.cli.loading import say_what_it_serves
from moshi_mlx.cli.main import main, run_command
from moshi_mlx.errors import ConfigError

WAIT_S = 120  # only ever used up by a test that fails
SLOW = "a step of all models takes"  # on a machine that is busy
OLD_FLAGS = ["--steps", "4000", "--no-browser", "--port", "0", "--host", "localhost"]


@pytest.mark.parametrize(
    "args, words",
    [
        (["--static", "/nowhere"], "no index.html"),
        (["--ssl", "/nowhere"], "no cert.pem"),
        (["--record", __file__], "test_serve.py cannot be made: File exists"),
        (["--token", "short"], "5 characters"),
        (["--allow-origin", "friend.example"], "is not an origin"),
        (["--model", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_a_wrong_option_is_one_sentence(args, words, capsys):
    assert main(["serve", "--model", "demo", "--no-browser", *args]) == 1
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_the_old_command_has_the_old_flags(capsys):
    assert run_command("serve", ["--help"], "moshi-local-web") == 0
    text = capsys.readouterr().out
    flags = ("--tokenizer", "--moshi-weight", "--mimi-weight", "--quantized", "-q")
    flags += ("--hf-repo", "--static", "--host", "--port", "--lm-config", "--ssl")
    for flag in (*flags, "--no-browser"):
        assert flag in text
    assert "8998" in text


@pytest.mark.parametrize(
    "kind, words",
    [
        ("tts", "does not listen: serve it with --tts it."),
        ("mimi", "does not listen: use moshi-mlx speak or complete"),
    ],
)
def test_a_model_that_nobody_can_talk_to_is_refused_with_what_to_do(kind, words):
    info = SimpleNamespace(kind=kind_of({"model_type": kind}), name="it")
    with pytest.raises(ConfigError, match=words):
        say_what_it_serves(info)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind, words",
    [
        ("hibiki", "it holds no conversation: clients hear a translation of what"),
        ("stt", "it holds no conversation: clients read what they say (--stt it"),
        ("moshi", ""),
    ],
)
def test_a_model_that_holds_no_conversation_is_announced(kind, words, capsys):
    info = SimpleNamespace(kind=kind_of({"model_type": kind}), name="it")
    say_what_it_serves(info)  # type: ignore[arg-type]
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_old_command_serves_until_it_is_told_to_end(how):
    command = [sys.executable, "-m", "moshi_mlx.local_web", "--hf-repo", "demo"]
    with subprocess.Popen(
        [*command, *OLD_FLAGS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("Moshi is at http://localhost:")
        url = line.split()[-1]
        with urllib.request.urlopen(url, timeout=WAIT_S) as page:
            assert b"<title>Moshi</title>" in page.read()
        process.send_signal(how)
        _, err = process.communicate(timeout=WAIT_S)
    code = 130 if how is signal.SIGINT else -signal.SIGTERM
    told = [line for line in err.splitlines() if SLOW not in line]
    assert (process.returncode, told) == (code, [])


def test_a_port_that_is_taken_is_one_sentence(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        args = ["--host", "127.0.0.1", "--port", port, "--no-browser"]
        assert main(["serve", "--model", "demo", *args]) == 1
    err = capsys.readouterr().err
    assert f"127.0.0.1:{port} cannot be listened on" in err and err.count("\n") == 1


def test_addresses_carry_scheme_and_token():
    assert Addresses("localhost", False, None, "").urls(8998) == [
        "http://localhost:8998"
    ]
    assert Addresses("::1", True, "a b", "").urls(1) == ["https://[::1]:1/?token=a%20b"]
    words = Addresses("0.0.0.0", False, "secret12", "").words(8998)
    assert words.startswith("Moshi is at http://localhost:8998/?token=secret12")
    assert "add --https" in words
    assert "AB:CD" in Addresses("0.0.0.0", True, "secret12", "AB:CD").words(8998)
