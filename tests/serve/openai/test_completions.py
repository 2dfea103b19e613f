"""Completions with OpenAI's client, of a small random model."""

import itertools
import json
from collections.abc import Iterator

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

import moshi_mlx
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.engines.text import TextModel
from moshi_mlx.serve.gate.refusal import Refused
from moshi_mlx.serve.lazy import Lazy
from moshi_mlx.serve.protocols.openai.asking import read_asked
from moshi_mlx.serve.protocols.openai.completions import Stop
from moshi_mlx.serve.speech import SpeechService
from tests.family import writing

PROMPT = "hello there"
SAID = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "how are you"}]},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> TextModel:
    return moshi_mlx.load_text(writing(tmp_path_factory.mktemp("text")))


@pytest.fixture
def writer(serve, model) -> Iterator[OpenAI]:
    text = Lazy(model.name, lambda: model)
    server = serve(speech=SpeechService(model_thread(), text=text))
    url = f"http://127.0.0.1:{server.port}/v1"
    with OpenAI(base_url=url, api_key="none", max_retries=0) as made:
        yield made


def test_a_text_goes_on_as_the_model_writes_it_streamed_and_whole(writer, model):
    expected = "".join(model.complete(PROMPT, 12, seed=3, temp=0.5, top_p=0.9))
    asked = {"model": "m", "prompt": PROMPT, "seed": 3, "temperature": 0.5}
    asked |= {"top_p": 0.9, "max_tokens": 12}
    whole = writer.completions.create(**asked)
    assert whole.choices[0].text == expected
    assert whole.model == model.name and whole.object == "text_completion"
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None and whole.usage.completion_tokens == 12
    options = {"include_usage": True}
    parts = list(
        writer.completions.create(**asked, stream=True, stream_options=options)
    )
    told = [choice.text for part in parts for choice in part.choices]
    assert "".join(told) == expected and len(told) > 3
    assert parts[-1].usage == whole.usage
    assert [c.finish_reason for c in parts[-2].choices] == ["length"]


def test_a_conversation_goes_on_until_the_user_would_speak(writer, model):
    text = "Be brief.\nUser: how are you\nAssistant:"
    expected = "".join(model.complete(text, 10, seed=1)).lstrip()
    asked = {"model": "m", "messages": SAID, "seed": 1, "max_completion_tokens": 10}
    whole = writer.chat.completions.create(**asked)
    assert whole.choices[0].message.content == expected.partition("\nUser:")[0]
    assert whole.choices[0].message.role == "assistant"
    parts = list(writer.chat.completions.create(**asked, stream=True))
    assert parts[0].choices[0].delta.role == "assistant"
    told = [part.choices[0].delta.content or "" for part in parts]
    assert "".join(told) == whole.choices[0].message.content
    assert parts[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_an_answer_ends_before_a_stop_text_however_it_is_cut():
    text = "one two\nUser: three"
    for cuts in itertools.combinations(range(1, len(text)), 3):
        stop, told = Stop(["\nUser:", "four"]), ""
        for start, end in itertools.pairwise([0, *cuts, len(text)]):
            told += stop.push(text[start:end])
            if stop.found:
                break
        assert told == "one two" and stop.found
    stop = Stop(["\nUser:"])
    assert stop.push("a\nUs") == "a" and stop.finish() == "\nUs"


def test_a_prompt_longer_than_the_model_remembers_is_refused(writer):
    with pytest.raises(BadRequestError, match="the model remembers 300") as caught:
        writer.completions.create(model="m", prompt="hello " * 400)
    assert caught.value.code == "context_length_exceeded"


def test_a_server_without_such_a_model_says_so(serve):
    server = serve()
    url = f"http://127.0.0.1:{server.port}/v1"
    with (
        OpenAI(base_url=url, api_key="none", max_retries=0) as client,
        pytest.raises(NotFoundError, match="start it with --text MODEL"),
    ):
        client.completions.create(model="m", prompt="a")


@pytest.mark.parametrize(
    "body",
    [
        *("", "[", "[]", "{}", '{"prompt": ""}', '{"prompt": 7}', '{"prompt": [1]}'),
        '{"prompt": ["a", "b"]}',
        *(f'{{"prompt": "a", "{name}": {value}}}' for name, value in (
            ("n", 2), ("max_tokens", 0), ("max_tokens", '"7"'), ("max_tokens", 1e9),
            ("temperature", -1), ("temperature", "true"), ("top_p", 2), ("seed", 0.5),
            ("stop", 7), ("stop", '[""]'), ("stop", '["a","b","c","d","e"]'),
        )),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_prompt_is_refused(body: str):
    with pytest.raises(Refused) as caught:
        read_asked(body.encode(), chat=False)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "messages",
    [
        *(
            None,
            [],
            "a",
            [7],
            [{}],
            [{"role": "user"}],
            [{"role": "x", "content": "a"}],
        ),
        [{"role": "user", "content": [{"type": "image_url"}]}],
        [{"role": "user", "content": [7]}],
    ],
)
def test_what_is_wrong_with_a_conversation_is_refused(messages):
    with pytest.raises(Refused) as caught:
        read_asked(json.dumps({"messages": messages}).encode(), chat=True)
    assert caught.value.status == 400 and caught.value.param == "messages"
