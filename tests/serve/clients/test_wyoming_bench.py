"""wyoming-bench, which measures the speech services of Home Assistant."""

import re
import shutil

import pytest

from tests.questions import QUESTIONS
from tests.serve.clients.conftest import output_of
from tests.serve.clients.environments import program, python
from tests.serve.clients.listening import TEXT, says

pytestmark = pytest.mark.flaky(reruns=2)  # the demo mumbles now and then
MODES = ["non_streaming", "streaming"]


@pytest.fixture
def bench(server):
    def bench(*args: object) -> str:
        command = python("wyoming-bench").parent / "wyoming-bench"
        return output_of(command, *args, f"127.0.0.1:{server.wyoming}")

    return bench


@program("wyoming-bench")
def test_both_services_are_described(bench):
    told = bench("info")
    assert re.search(r"(?i)tts", told) and re.search(r"(?i)asr|stt", told)


@program("wyoming-bench")
@pytest.mark.parametrize("mode", MODES)
def test_a_text_is_spoken(bench, mode, tmp_path):
    bench("generate-corpus", "--texts", TEXT, "--mode", mode, "--out", tmp_path)
    assert says(tmp_path / "sample_01.wav") == TEXT


@program("wyoming-bench")
@pytest.mark.parametrize("mode", MODES)
def test_a_sound_is_transcribed(bench, mode, tmp_path):
    [question] = [q for q in QUESTIONS if q.name == "planet"]
    shutil.copy(question.path, tmp_path / "a.wav")
    (tmp_path / "a.txt").write_text(question.question)
    once = ["--rounds", 1, "--warmup", 0, "--mode", mode, "--corpus", tmp_path]
    *_, wrong = re.findall(r"WER=([\d.]+)%", bench("stt", *once, "-v"))
    assert float(wrong) <= 20  # one word of five
