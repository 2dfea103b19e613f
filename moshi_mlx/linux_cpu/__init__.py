"""Faster matrix products for MLX's CPU backend on Linux.

MLX's Linux wheel links the reference BLAS. `use_fast_products` makes the loaded MLX
call OpenBLAS and the compiled `products.c` instead, for the whole process. The first
`Lm` or `Mimi` that is built calls it; importing the package changes nothing. macOS and
GPUs have fast products of their own and are left alone.
"""

import sys
from functools import cache


@cache
def use_fast_products() -> tuple[str, ...]:
    """Make MLX use the faster products; later calls do nothing.

    Set MOSHI_MLX_NO_OPENBLAS=1 to leave OpenBLAS out, and MOSHI_MLX_NO_PRODUCTS=1 to
    leave out (and not compile) `products.c`.

    Returns: the paths of the libraries that MLX now calls; empty on other systems.
    """
    if sys.platform != "linux":
        return ()
    from . import blas  # opens libraries, so not before it is wanted

    return tuple(blas.install())


def first_start() -> str | None:
    """What the first start on this machine still has to compile, and why."""
    if sys.platform != "linux":
        return None
    from . import blas

    if not blas.to_compile():
        return None
    return (
        "first start: compiling kernels for this processor, once, some 15 s; they make "
        "live frames several times as fast"
    )
