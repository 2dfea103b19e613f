"""Training is moshi-finetune's: losses, gradients, optimiser, step for step."""

import json

import mlx.core as mx
import pytest

from moshi_mlx.finetune.loss import LossWeights, losses
from moshi_mlx.finetune.optimizer import schedule
from moshi_mlx.finetune.step import TrainingStep
from tests.finetune.golden_run import OPTIONS, TOLD, batches, stepper
from tests.learning import golden
from tests.tiny import number


def assert_arrays_are(run: TrainingStep, name: str) -> None:
    """A and B within 1e-4 in 99 % of the elements.

    Where a gradient is almost 0, Adam's step keeps only its sign.
    """
    close = [
        mx.abs(run.trainable.arrays[path] - expected).reshape(-1) <= 1e-4
        for path, expected in golden(name).items()
    ]
    assert number(mx.concatenate(close).mean()) >= 0.99


def test_eight_steps_are_pytorch_s():
    run, codes = stepper(), batches()
    for told in TOLD["steps"]:
        step = told["step"] - 1
        if step < 2:
            _, gradients = run._gradients(run.trainable.arrays, codes[step])
            for name, mine in gradients.items():
                expected = golden("gradients")[f"step{step + 1}.{name}"]
                largest = number(mx.abs(expected).max())
                assert number(mx.abs(mine - expected).max()) <= 1e-3 * largest, name
        done = run(step, [codes[told["batch"][0]]])
        assert done.text_loss == pytest.approx(told["text_loss"], rel=1e-4)
        assert done.audio_loss == pytest.approx(told["audio_loss"], rel=1e-4)
        assert done.loss == pytest.approx(told["total_loss"], rel=1e-4)
        assert done.grad_norm == pytest.approx(told["grad_norm"], rel=1e-4)
        assert done.tokens == told["valid_text"] + told["valid_audio"]
        assert done.rates.rate == pytest.approx(told["lr"], rel=1e-9)
        assert done.rates.beta1 == pytest.approx(told["beta1"], rel=1e-9)
        if step == 0:
            assert_arrays_are(run, "lora_step1")
    assert_arrays_are(run, "lora_step8")


def test_accumulated_micro_batches_are_pytorch_s():
    run = stepper()
    for told in TOLD["accumulated_two_batches"]:
        done = run(told["step"] - 1, batches())
        assert done.loss == pytest.approx(told["total_loss"], rel=1e-4)
        assert done.grad_norm == pytest.approx(told["grad_norm"], rel=1e-4)
    assert_arrays_are(run, "lora_accumulated4")


def test_parts_of_a_batch_add_up_to_its_loss():
    """What processes that share a batch compute: they divide by the joined weight."""
    run, codes = stepper("lora_step1"), batches()[0]
    run.trainable.put(run.trainable.arrays)
    whole = losses(run.lm, codes, LossWeights())
    seen: list[mx.array] = []

    def note(x: mx.array) -> mx.array:
        seen.append(x)
        return x

    for row in range(2):
        losses(run.lm, codes[row : row + 1], LossWeights(), add=note)
    text, audio = seen[0] + seen[2], seen[1] + seen[3]
    parts = []
    for row in range(2):
        totals = iter([text, audio])
        parts.append(
            losses(
                *(run.lm, codes[row : row + 1], LossWeights()),
                add=lambda _, totals=totals: next(totals),
            )
        )
    for of_whole, one, two in zip(whole, *parts, strict=True):
        assert number(one) + number(two) == pytest.approx(number(of_whole), rel=1e-5)


def test_streams_of_the_user_need_not_count():
    run, codes = stepper("lora_step1"), batches()[0]
    run.trainable.put(run.trainable.arrays)
    some = losses(run.lm, codes, LossWeights(own_streams=3))
    heard = mx.arange(17)[:, None] < 4
    fewer = losses(run.lm, mx.where(heard, codes, -1), LossWeights())
    assert number(some.tokens) == number(fewer.tokens)
    whole = losses(run.lm, codes, LossWeights())
    assert number(some.audio) != number(whole.audio)
    assert number(some.text) == number(whole.text)


def test_a_schedule_of_mlx_lm_warms_up_and_decays():
    block = {"name": "cosine_decay", "arguments": [1e-4, 10], "warmup": 4}
    rates = schedule(json.loads(json.dumps(block)), 1e-4, 100, 0.9, 0.05)
    assert [rates(step).rate for step in (0, 2)] == pytest.approx([0, 5e-5])
    assert rates(4).rate == pytest.approx(1e-4)
    assert rates(14).rate == pytest.approx(0, abs=1e-9)
    assert rates(9).beta1 == 0.9


@pytest.mark.slow  # on CPU each fused operation is compiled by g++
def test_a_compiled_step_takes_each_step_s_momentum():
    plain, compiled = stepper(), stepper(compiled=True)
    for step in range(3):
        codes = [batches()[step % 2]]
        one, two = plain(step, codes), compiled(step, codes)
        assert two.loss == pytest.approx(one.loss, rel=1e-4)
        assert two.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)
    for name, array in plain.trainable.arrays.items():
        error = mx.abs(compiled.trainable.arrays[name] - array)
        assert number((error <= 1e-4).mean()) >= 0.99, name
    assert OPTIONS["max_norm"] == plain.max_norm
