"""The same ground for every test: CPU, one seed, and no silent skip where it counts."""

import logging
import os
import signal
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

from moshi_mlx.fast import ops
from moshi_mlx.linux_cpu import use_fast_products

use_fast_products()  # for the tests of single modules too
settings.register_profile("untimed", deadline=None)  # no test asserts a time
settings.load_profile("untimed")
_on_gpu = ops.on_gpu


def hear_signals() -> None:
    """Undo what a shell's `&` and nohup do: commands that tests start would inherit
    that SIGINT or SIGHUP is ignored, and not end as they should."""
    defaults = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    for number, default in defaults.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)


hear_signals()

NO_SKIP = "MOSHI_MLX_NO_SKIP"  # or CI: a skipped test fails
# A skip whose reason starts so states a fact of the platform (no wheel for it), not a
# gap of this machine, and passes everywhere.
PLATFORM = "not on "


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--gpu-forms",
        action="store_true",
        help="compute on the CPU in the forms that run on a GPU (moshi_mlx.fast.ops)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Choose the forms before any fixture is made; tests of the CPU's own keep it."""
    forced = item.config.getoption("--gpu-forms")
    if forced and item.get_closest_marker("cpu_forms") is None:
        ops.on_gpu = lambda: True
    else:
        ops.on_gpu = _on_gpu


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> None:
    """What a module or the session shares is made before the seed below is set: without
    this its weights would be others in every run."""
    if fixturedef.scope != "function":
        import mlx.core as mx

        mx.random.seed(0)


@pytest.fixture(autouse=True)
def _cpu_and_seed() -> Iterator[None]:
    import mlx.core as mx

    before = mx.default_device()
    logger = logging.getLogger("moshi_mlx")
    logs = logger.handlers[:], logger.level, logger.propagate
    mx.set_default_device(mx.cpu)
    mx.random.seed(0)
    yield
    mx.set_default_device(before)
    logger.handlers, logger.level, logger.propagate = logs  # commands set them


# Tests against the clock of a sound card, a browser or an impatient server: whether the
# machine gives them their time is not ours to decide, so each may try five times.
REAL_TIME = (
    "tests/sound_devices/",
    "tests/serve/test_attacks.py",
    "tests/serve/test_page.py",
    "tests/serve/test_page_tabs.py",
    "tests/serve/test_robustness.py",
    "tests/compat/test_web_clients.py",
)


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    import mlx.core as mx

    if not mx.metal.is_available():
        away = [item for item in items if item.get_closest_marker("metal")]
        config.hook.pytest_deselected(items=away)
        items[:] = [item for item in items if item not in away]
    for item in items:
        if item.nodeid.startswith(REAL_TIME):
            item.add_marker(pytest.mark.flaky(reruns=4, reruns_delay=2))


def forbidden_skip(skipped: bool, reason: str) -> bool:
    """Whether a skip must fail here: CI has, or installs, all that a test can need."""
    strict = os.environ.get(NO_SKIP) or os.environ.get("CI")
    return bool(strict) and skipped and not reason.startswith(PLATFORM)


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    place = report.longrepr
    reason = place[2] if isinstance(place, tuple) else str(place)
    reason = reason.removeprefix("Skipped: ")
    expected_failure = hasattr(report, "wasxfail")
    if not expected_failure and forbidden_skip(report.skipped, reason):
        report.outcome = "failed"
        report.longrepr = f"skipped, though {NO_SKIP} or CI is set: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[
    None, pytest.CollectReport, pytest.CollectReport
]:
    report = yield
    _fail_if_skipped(report)
    return report
