"""Write each command's options as Markdown tables, which the site's pages include.

.venv/bin/python scripts/site/options.py FOLDER     FOLDER/chat.md, ...
"""

import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import typer

from moshi_mlx.cli import main as cli

MAIN = "Options"
COMPLETION = {"--install-completion", "--show-completion"}


def table(name: str) -> str:
    """The arguments and options of `moshi-mlx NAME`, a table for each panel."""
    app = cli._typer()
    cli._add(app, name)
    command: Any = typer.main.get_command(app)
    panels: defaultdict[str, list[str]] = defaultdict(list)
    for param in command.params:
        if getattr(param, "hidden", False) or {"--help", *COMPLETION} & set(param.opts):
            continue
        panel = getattr(param, "rich_help_panel", None) or MAIN
        if param.param_type_name == "argument":
            panel = "Arguments"
        panels[panel].append(f"| {_spelling(param)} | {_cell(param.help or '')} |")
    head = "| | what it does |\n| --- | --- |"
    return "\n\n".join(
        f"**{panel}**\n\n{head}\n" + "\n".join(panels[panel])
        for panel in sorted(panels, key=_order)
    )


def _order(panel: str) -> int:
    return {"Arguments": 0, MAIN: 1}.get(panel, 2)


def _spelling(param: Any) -> str:
    """`--temp T`, `-q`: as typed; of old spellings the first is enough."""
    value = "" if getattr(param, "is_flag", False) else (param.metavar or "")
    if param.param_type_name == "argument":
        return f"`{value or param.name.upper()}`"
    long = next(opt for opt in param.opts if opt.startswith("--"))
    short = [opt for opt in param.opts if not opt.startswith("--")]
    names = [*short, " / ".join([long, *param.secondary_opts])]
    return f"`{' '.join([', '.join(names), value]).strip()}`"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", r"\|")


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in cli.available():
        (folder / f"{name}.md").write_text(table(name) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
