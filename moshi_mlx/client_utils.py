"""moshi_mlx 0.3.0's import path of `moshi_mlx.cli.console`."""

from .cli.console import AnyPrinter, Printer, RawPrinter, colorize, make_log

__all__ = ["AnyPrinter", "Printer", "RawPrinter", "colorize", "make_log"]
