"""`--image FILE`: a question about a picture, and what is said of other files."""

import json
from pathlib import Path

import pytest
from PIL import Image

from moshi_mlx.checkpoint.memory import fitting_vis
from moshi_mlx.cli.loading import choose_moshi
from moshi_mlx.cli.main import main
from tests.questions import QUESTIONS
from tests.vision import picture, vis_folder

QUESTION = str(QUESTIONS[0].path)


@pytest.fixture(scope="module")
def vis(tmp_path_factory) -> str:
    return str(vis_folder(tmp_path_factory.mktemp("vis")))


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "picture.png"
    Image.fromarray(picture()).save(path)
    return str(path)


def tokens(capsys, *args: str) -> dict:
    common = ["--json", "--tail", "0", "--seed", "1", "--temp", "0"]
    assert main(["respond", *args, *common]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_picture_changes_the_answer(vis, image, capsys):
    blind = tokens(capsys, QUESTION, "--model", vis)
    seeing = tokens(capsys, QUESTION, "--model", vis, "--image", image)
    assert blind["frames"] == seeing["frames"]
    assert blind["text"] != seeing["text"]


@pytest.mark.parametrize("command", [["respond", QUESTION], ["chat"]])
def test_a_file_that_is_no_image_is_told_before_a_model_is_loaded(
    command, tmp_path, capsys
):
    path = tmp_path / "note.txt"
    path.write_text("no image")
    model = ["--model", "no/such-model"]
    assert main([*command, *model, "--image", str(path)]) == 1
    shown = capsys.readouterr().err
    assert "note.txt is no image that can be read: give a JPEG" in shown
    assert main([*command, *model, "--image", str(tmp_path / "none.jpg")]) == 1
    assert "there is no image" in capsys.readouterr().err


def test_a_model_that_sees_none_is_told(image, capsys):
    assert main(["respond", QUESTION, "--model", "demo", "--image", image]) == 1
    shown = capsys.readouterr().err
    assert "demo is a moshi model and sees no images: use one like kyutai" in shown


def test_without_a_model_the_one_that_sees_is_taken():
    image = Path("dog.jpg")
    assert choose_moshi(None, None, image) == (
        "kyutai/moshika-vis-mlx",
        fitting_vis(),
    )
    assert choose_moshi(None, 8, image) == ("kyutai/moshika-vis-mlx", 8)
    assert choose_moshi("demo", None, image) == ("demo", None)
    assert choose_moshi(None, 4) == ("kyutai/moshiko-mlx-q4", 4)
    assert choose_moshi(None, None)[0].startswith("kyutai/moshiko-mlx-q")
    assert (fitting_vis(8 * 10**9), fitting_vis(24 * 10**9)) == (4, 8)
