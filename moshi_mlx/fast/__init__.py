"""The one door to the forms of the networks that generate fastest.

``modules`` and ``models`` say what is computed, in plain MLX; that is the reference,
and what trains. ``ready(network)`` gives the same network for generation: a copy of its
modules over the same weights, in which layers are replaced by faster forms (products of
modules over the same weights, in which layers are replaced by faster forms: several
layers joined into one product, the pieces between attentions compiled, arithmetic
written for MLX's CPU backend. Whatever these derive from weights they store themselves:
the network and its parameters stay as they are. A layer of an unknown kind (an adapter,
or a user's own) is called as it is.

A form is a subclass of the class that it replaces::

    @form(nn.Linear)
    class FastLinear(nn.Linear):
        def made_ready(self) -> None: ...  # optional: called once its parts are ready

Each is tested against its reference in tests/fast.
"""

from . import attention, conv, linear, quantization, seanet, transformer  # noqa: F401
from .twin import forget, form, ready

__all__ = ["forget", "form", "ready"]
