"""`moshi-mlx COMMAND`: imports only the command that is run.

A command is a file in this folder with a typed function of the same name, whose
docstring is its help, and ``EXAMPLES``, lines to type. To add one, add its file and its
line in ``COMMANDS``.
"""

import math
import os
import sys
from collections.abc import Callable, Sequence
from copy import copy
from importlib import import_module
from importlib.util import find_spec
from inspect import cleandoc
from typing import Annotated, Any, TypeVar, cast

import typer
from typer.core import TyperCommand, TyperGroup

from ..errors import DISK_FULL, MoshiError
from .console import log_to_stderr, make_log
from .signals import INTERRUPTED, as_ctrl_c
from .streams import open_streams

# Name: (group in --help, purpose).
COMMANDS = {
    "chat": ("Talk", "Talk with Moshi by microphone and speaker."),
    "serve": ("Talk", "Talk with Moshi in the browser."),
    "respond": ("Talk", "Answer a recorded question: sound file in, sound file out."),
    "transcribe": ("Listen and speak", "Speech to text, from files or the microphone."),
    "speak": ("Listen and speak", "Text to speech."),
    "voices": ("Listen and speak", "List, search and play the voices of `speak`."),
    "translate": ("Listen and speak", "Translate speech into speech (Hibiki)."),
    "complete": ("Listen and speak", "Continue a text (Helium)."),
    "codec": ("Listen and speak", "Turn sound into Mimi's codes, and back."),
    "finetune": ("Train", "Teach a model from your own recordings."),
    "annotate": ("Train", "Write down the words of recordings, for `finetune`."),
    "fuse": ("Train", "Merge adapters into a model, or save them in another form."),
    "info": ("Checkpoints", "Show what a checkpoint holds."),
    "quantize": ("Checkpoints", "Make a checkpoint smaller and faster."),
    "convert": ("Checkpoints", "Save a checkpoint for MLX, or for PyTorch."),
    "doctor": ("This machine", "Check what could keep Moshi from running here."),
    "bench": ("This machine", "Time every stage of a frame."),
}
NO_ROOM = "the disk is full: free some space, or write to another disk."
OLD_SEED = 299792458  # 0.3.0's programs use the same seed every time
HELP_NAMES = {"help_option_names": ["-h", "--help"]}


def main(args: Sequence[str] | None = None) -> int:
    """Run `moshi-mlx ARGS` (the process's own by default); returns the exit code."""
    args = list(sys.argv[1:] if args is None else args)
    return guard(lambda: _group(args)(args, prog_name="moshi-mlx"))


def run_command(name: str, args: Sequence[str], program: str) -> int:
    """Run one command under another name, for the entry modules of moshi_mlx 0.3.0.

    Args:
        name: a command, as in ``moshi-mlx NAME``.
        args: its arguments.
        program: what the user typed, for the usage line.
    """

    def run() -> None:
        app = _typer()
        _add(app, name)
        app(list(args), prog_name=program)

    return guard(run)


def guard(run: Callable[[], None]) -> int:
    """Exit code of ``run``; an error that the user can fix becomes one line.

    If SIGTERM or SIGHUP stopped it, the process ends by that signal.
    """
    open_streams()
    with as_ctrl_c() as ending:
        code = _guarded(run)
    ending.finish()
    return code


def _guarded(run: Callable[[], None]) -> int:
    log_to_stderr()
    try:
        run()
    except SystemExit as end:  # how Typer returns, after --help too
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except MoshiError as error:
        print(make_log("error", " ".join(str(error).split())), file=sys.stderr)
        return 1
    except OSError as error:
        if error.strerror is None:
            raise
        where = "" if error.filename is None else f"{error.filename!r}: "
        words = f"the system refuses, {where}{error.strerror.lower()}."
        full = error.errno in DISK_FULL
        print(make_log("error", NO_ROOM if full else words), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def available() -> list[str]:
    """Names of the commands in this version."""
    return [name for name in COMMANDS if find_spec(f"{__package__}.{name}")]


P = TypeVar("P")


def _without_bool(params: list[P]) -> list[P]:
    """Parameters whose help has no "<bool>" after options without a value."""
    for param in params:
        if getattr(param, "is_flag", False):
            setattr(param, "metavar", "")  # noqa: B010  # its class is not public
    return params


ENDLESS = 10**9  # a limit above this one is the computer's: not worth a word


def _narrow(param: Any) -> Any:
    """An option as --help shows it, so that 80 columns have room for the help.

    Its aliases and its range stand behind the help instead of before it.
    """
    if param.param_type_name != "option":
        return param
    shown = copy(param)
    low, high = getattr(param, "min", None), getattr(param, "max", None)
    if low is not None and high is not None:
        shown.max = None
        if high < ENDLESS:
            shown.min = None
            shown.help = f"{shown.help} From {low:g} to {high:g}."
    long = [name for name in param.opts if name.startswith("--")]
    if len(long) > 1:
        shown.opts = [long[0], *(name for name in param.opts if name not in long)]
        shown.help = f"{shown.help} Also {', '.join(long[1:])}."
    return shown


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_bool(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        for param in self.params:
            given = ctx.params.get(param.name or "")
            for value in given if isinstance(given, list | tuple) else [given]:
                if isinstance(value, float) and not math.isfinite(value):
                    words = f"{value} cannot be used here: a finite number is wanted."
                    raise typer.BadParameter(words, ctx, cast(Any, param))
        return super().invoke(ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        shown = copy(self)
        shown.params = [_narrow(param) for param in self.params]
        super(_Command, shown).format_help(ctx, formatter)


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_bool(super().get_params(ctx))


def _typer() -> typer.Typer:
    return typer.Typer(
        cls=_Group,
        context_settings=HELP_NAMES,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )


def _group(args: Sequence[str]) -> typer.Typer:
    """All commands: the one in ``args`` complete, the others by name and help only."""
    app = _typer()
    app.callback()(_root)
    asked = next((arg for arg in args if not arg.startswith("-")), None)
    completing = "_MOSHI_MLX_COMPLETE" in os.environ  # the shell asks for completions
    for name in available():
        if completing or name == asked:
            _add(app, name)
        else:
            group, what_for = COMMANDS[name]
            app.command(name, help=what_for, rich_help_panel=group)(_not_asked_for)
    return app


def _add(app: typer.Typer, name: str) -> None:
    module = import_module(f".{name}", __package__)
    command = getattr(module, name)
    app.command(
        name,
        help=_flowing(command.__doc__ or ""),
        epilog="\n\n".join(["Examples:", *module.EXAMPLES.strip().splitlines()]),
        rich_help_panel=COMMANDS[name][0],
        context_settings=HELP_NAMES,
        no_args_is_help=False,
        cls=_Command,
    )(command)


def _flowing(docstring: str) -> str:
    """A docstring whose paragraphs the terminal breaks into lines, not we."""
    paragraphs = cleandoc(docstring).split("\n\n")
    return "\n\n".join(" ".join(text.split()) for text in paragraphs)


def _not_asked_for() -> None:
    """Stands for a command that only --help lists in this run."""


def _show_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        print(f"moshi_mlx {__version__}")
        raise typer.Exit()


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version.",
            callback=_show_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Talk with Moshi, and use the other speech models of Kyutai, on this machine.

    moshi-mlx COMMAND --help shows a command's options, with examples.
    """


if __name__ == "__main__":
    sys.exit(main())
