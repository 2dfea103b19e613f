"""Lists that programs ask for without a token: on this machine alone."""

import pytest

from moshi_mlx.serve.gate.refusal import Manners
from moshi_mlx.serve.gate.security import Policy
from tests.serve.gate.guarded import TOKEN, asked

LISTS = Manners(prefixes=("/v1",), open=(("GET", "/v1/models"),))


@pytest.mark.parametrize(
    "client, passes", [("127.0.0.1", True), ("::1", True), ("10.0.0.7", False)]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_lists_need_no_token_on_this_machine(client, passes, method):
    policy = Policy(token=TOKEN)
    listed = {"path": "/v1/models", "manners": (LISTS,), "method": method}
    assert asked(policy, client=(client, 5), **listed).passed is passes


@pytest.mark.parametrize(
    "more",
    [
        {"x_forwarded_for": "127.0.0.1"},
        {"forwarded": "for=127.0.0.1"},
        {"x_real_ip": "127.0.0.1"},
        {"via": "1.1 proxy"},
        {"client": None},
        {"method": "POST"},
        {"path": "/v1/models/other"},
        {"manners": ()},
    ],
)
def test_lists_need_a_token_through_a_proxy_and_nothing_else_is_a_list(more):
    listed = {"path": "/v1/models", "manners": (LISTS,), **more}
    answer = asked(Policy(token=TOKEN), **listed)
    assert not answer.passed and answer.status == 401
