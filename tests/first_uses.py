"""Which operations first appear late: on a GPU each is compiled when it first comes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mlx.core as mx
from mlx.utils import tree_flatten

NODE = re.compile(r'label ="([^"]+)", shape=rectangle')


@contextmanager
def operations(folder: Path) -> Iterator[set[str]]:
    """The names of all operations that are evaluated meanwhile with ``mx.eval``."""
    names: set[str] = set()
    graph = str(folder / "graph.dot")

    def noting(evaluate: Any) -> Any:
        def noted(*outputs: Any) -> None:
            leaves: Any = tree_flatten(list(outputs))
            arrays = [leaf for _, leaf in leaves if isinstance(leaf, mx.array)]
            if arrays:
                mx.export_to_dot(graph, arrays)
                names.update(NODE.findall(Path(graph).read_text()))
            evaluate(*outputs)

        return noted

    with (
        patch.object(mx, "eval", noting(mx.eval)),
        patch.object(mx, "async_eval", noting(mx.async_eval)),
    ):
        yield names
