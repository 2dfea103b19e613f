"""The one door to the forms of the networks that generate fastest.

``modules`` and ``models`` say what is computed, in plain MLX; that is the reference,
and what trains. ``ready(network)`` gives the same network for generation: a copy of its
modules over the same weights, in which layers are replaced by faster forms (products of
several layers joined, pieces between attentions compiled, arithmetic as MLX's CPU
backend runs it best). What these derive from weights they keep themselves: the network
and its parameters stay as they are. A layer of a kind that is not known here, an
adapter or a user's own, is called as it is.

A form is a subclass of what it replaces::

    @form(nn.Linear)
    class FastLinear(nn.Linear):
        def made_ready(self) -> None: ...  # optional: called once its parts are ready

Each is tested against its reference in tests/fast.
"""

from . import attention, conv, linear, quantization, seanet, transformer  # noqa: F401
from .twin import forget, form, ready

__all__ = ["forget", "form", "ready"]
