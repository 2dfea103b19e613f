"""The table of times that `bench` prints."""


def print_table(head: tuple[str, ...], rows: list[list[str]], notes: list[str]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    from ..bench.machine import machine

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(head[0], no_wrap=True)
    for name in head[1:]:
        table.add_column(name, justify="right")
    for cells in rows:
        table.add_row(*cells)
    console = Console()
    console.print(f"{machine()}; milliseconds for the whole batch", highlight=False)
    # in a narrow window lines break, but no figure is cut
    wide = Measurement.get(console, console.options.update(width=999), table).maximum
    Console(width=max(wide, console.width)).print(table)
    for note in notes:
        console.print(note, highlight=False)
