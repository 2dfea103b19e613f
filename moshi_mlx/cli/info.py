"""`moshi-mlx info`: what a checkpoint holds, and which machines can run it live."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .chips import summary, table
from .outputs import Json, print_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..checkpoint.info import CheckpointInfo
    from ..models.lm import Lm

EXAMPLES = """
moshi-mlx info demo
moshi-mlx info kyutai/moshiko-mlx-q4
moshi-mlx info kyutai/moshiko-mlx-q8 --chips
moshi-mlx info my-finetune/ --json
moshi-mlx info kyutai/moshiko-mlx-q4 --verify
"""


def info(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME|FOLDER|demo", help="The checkpoint to read."),
    ] = None,
    model: options.AnyModel = None,
    lm_config: options.LmConfigFile = None,
    kv_bits: options.KvBits = None,
    chips: Annotated[
        bool,
        typer.Option(
            "--chips", help="List every Apple chip with its memory bandwidth."
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Compare the downloaded files with their checksums on the hub.",
        ),
    ] = False,
    json_: options.Json = False,
) -> None:
    """Show what a checkpoint holds: network, layers, bits, files, memory.

    It also shows which Apple chips are fast enough to run it live, computed from their
    published memory bandwidth. If the model is not on this machine, only its
    config.json is fetched.
    """
    from ..checkpoint.info import CheckpointInfo
    from ..checkpoint.memory import fitting_moshi

    found = CheckpointInfo.find(
        name or model or fitting_moshi(), config=lm_config, kv_bits=kv_bits
    )
    if verify:
        check_files(found)
        return
    facts = describe(found)
    if json_:
        print_json("info", facts)
        return
    from rich.console import Console

    show(facts, Console(), chips)


def check_files(found: "CheckpointInfo") -> None:
    """Compare the files of a checkpoint with the hub's checksums.

    Raises: CheckpointError, naming the files that differ from the hub's.
    """
    from ..errors import CheckpointError
    from ..utils.blobs import damaged
    from .console import make_log

    files = [*found.moshi_weights, found.mimi_weights, found.tokenizer]
    if troubles := [trouble for path in files if (trouble := damaged(path))]:
        raise CheckpointError("; ".join(troubles) + ".")
    print(make_log("info", f"{len(files)} files are as the hub has them"))


def describe(found: "CheckpointInfo") -> Json:
    """Everything that is known about a checkpoint, for JSON."""
    from ..checkpoint.bandwidth import reach
    from ..checkpoint.build import footprint
    from ..checkpoint.cost import cost
    from ..checkpoint.kernels import kernels
    from ..checkpoint.licence import restricted_licence
    from ..checkpoint.memory import machine_memory
    from ..checkpoint.outline import outline
    from ..checkpoint.quantize import describe as quantised
    from ..checkpoint.quantize import is_quantized
    from ..errors import ConfigError

    if found.kind.engine == "codec":
        raise ConfigError(
            f"{found.name} is a Mimi codec of up to {found.num_codebooks} codebooks "
            "and no language model: use it with 'moshi-mlx codec', or in Python with "
            "moshi_mlx.load_codec."
        )
    lm, here = outline(found)
    weight, layers = cost(lm), quantised(lm)
    counted = kernels(lm, quantised=is_quantized(lm), codec=bool(lm.n_q))
    needs = footprint(found, lm)
    codec = needs.codec
    read = weight.step_bytes + codec
    return {
        "name": found.name,
        "model_type": found.model_type,
        "restricted_licence": restricted_licence(found),
        "files_here": here,
        "files": _files(found) if here else [],
        "network": _network(lm),
        "sampling": found.lm_gen_config,
        "conditions": _conditions(found),
        "image": _image(lm),
        "voices": _voices(found),
        "parameters": weight.parameters,
        "bits_per_weight": round(weight.bits_per_weight, 2),
        "parts": {
            name: {
                "parameters": part.parameters,
                "bytes": part.nbytes,
                "step_bytes": part.step_bytes,
                "layers": dict(part.bits),
            }
            for name, part in weight.parts.items()
        },
        "unquantised": layers.kept,
        "memory_bytes": {
            "weights": weight.nbytes,
            "codec": codec,
            "image_encoder": needs.image,
            "conversation": weight.cache_bytes,
            "conversation_kv_bits_8": _packed_conversation(lm),
            "this_machine": machine_memory(),
        },
        "step_bytes": read,
        "frame_kernels": counted,
        "chips_computed_not_measured": [
            {
                "chip": r.chip.name,
                "gb_per_s": r.chip.gb_per_s,
                "steps_hz_at_most": round(r.steps_hz, 1),
                "frame_ms": r.frame_ms and [round(ms, 1) for ms in r.frame_ms],
                "live": r.verdict,
                "source": r.chip.source,
            }
            for r in reach(read, counted)
        ],
    }


def _packed_conversation(lm: "Lm") -> int | None:
    """The size of a conversation with 8-bit keys and values; None if impossible."""
    from ..checkpoint.cost import cache_bytes
    from ..errors import ConfigError

    try:
        cfg = lm.cfg.with_kv_bits(8)
    except ConfigError:
        return None
    return cache_bytes(cfg.transformer, lm.out_norm["weight"].dtype)


def _files(found: "CheckpointInfo") -> list[Json]:
    from ..checkpoint.formats import format_of
    from ..utils.tensor_files import read_header

    entries = []
    for path in found.moshi_weights:
        names = read_header(path)
        form = format_of(names, f"the weights of {found.name}").name
        size = path.stat().st_size
        entries.append(
            {
                "file": str(path),
                "bytes": size,
                "tensors": len(names),
                "format": form,
            }
        )
    return entries


def _network(lm: "Lm") -> Json:
    from ..audio import FRAME, SAMPLE_RATE

    cfg, dep = lm.cfg, lm.cfg.depformer
    main = cfg.transformer
    return {
        "width": main.d_model,
        "heads": main.num_heads,
        "layers": main.num_layers,
        "context_steps": main.context,
        "context_s": round(main.context * FRAME / SAMPLE_RATE, 1),
        "text_vocabulary": cfg.text_out_vocab_size,
        "codebooks_own": lm.dep_q,
        "codebooks_heard": cfg.other_codebooks,
        "delays": cfg.audio_delays,
        "depth": {
            "width": dep.transformer.d_model,
            "layers": dep.transformer.num_layers,
            "steps": dep.num_slices,
        }
        if lm.dep_q
        else None,
    }


def _image(lm: "Lm") -> dict[str, int] | None:
    """How a model that sees uses an image."""
    vision = lm.cfg.vision
    if vision is None:
        return None
    return {
        "size": vision.image_size,
        "patches": vision.side**2,
        "layers": vision.num_hidden_layers,
        "width": vision.hidden_size,
    }


def _conditions(found: "CheckpointInfo") -> Json:
    """Conditions by name: the values of a table, or the width of an array."""
    entries = found.config.get("conditioners") or {}
    return {
        name: entry[entry["type"]].get("possible_values") or entry[entry["type"]]["dim"]
        for name, entry in entries.items()
    }


def _voices(found: "CheckpointInfo") -> Json | None:
    """The names of a speaking model's voices, and those in its own folder."""
    if not found.kind.speaks:
        return None
    ident = found.model_id
    end = f".{ident['sig']}@{ident['epoch']}.safetensors" if ident else ""
    folder = found.source.folder
    own = sorted(p.name for p in folder.glob(f"**/*{end}")) if folder and end else []
    return {"repository": "kyutai/tts-voices", "ending": end, "in_folder": own}


def show(facts: Json, console: "Console", all_chips: bool) -> None:
    """The same for people; ``all_chips`` adds a table of them."""
    from ..checkpoint.bandwidth import STEPS_HZ

    _show_network(facts, console)
    console.print(_parts(facts["parts"]))
    memory, out = facts["memory_bytes"], console.print
    packed = memory["conversation_kv_bits_8"] or memory["conversation"]
    less, seeing = packed < memory["conversation"], memory["image_encoder"]
    out(
        f"{facts['parameters'] / 1e6:,.1f} M parameters at {facts['bits_per_weight']} "
        f"bits, {size(memory['weights'])}; codec {size(memory['codec'])}; "
        + (f"image encoder {size(seeing)}; " if seeing else "")
        + f"a long conversation {size(memory['conversation'])}"
        + (f" ({size(packed)} with --kv-bits 8)" if less else "")
        + f"; this machine {size(memory['this_machine'])}"
    )
    if facts["unquantised"]:
        out(f"unquantised layers: {', '.join(facts['unquantised'])}")
    read = facts["step_bytes"]
    out(
        f"\nA step reads {size(read)}, with codec and caches. Live sound, "
        f"{STEPS_HZ} steps per second, needs {read * STEPS_HZ / 1e9:.1f} GB/s.\n"
        "Apple's chips, computed from published bandwidths, not measured"
        + (":" if all_chips else " (--chips lists them):")
    )
    rows = facts["chips_computed_not_measured"]
    out(table(rows) if all_chips else summary(rows))


def _show_network(facts: Json, console: "Console") -> None:
    out, network = console.print, facts["network"]
    out(f"[bold]{facts['name']}[/bold], {facts['model_type']}", highlight=False)
    for file in facts["files"]:
        out(
            f"  {file['file']}: {size(file['bytes'])}, {file['tensors']} tensors, "
            f"{file['format']} format",
            highlight=False,
            soft_wrap=True,
        )
    if licence := facts["restricted_licence"]:
        out(f"licence of the weights: {licence}", highlight=False)
    if not facts["files_here"]:
        out("  its weights are not on this machine: assumed from config.json and name")
    out(
        "{layers} layers of {width}, {heads} heads, remembers {context_s} s "
        "({context_steps} steps); {text_vocabulary} text tokens, codebooks: "
        "{codebooks_own} own, {codebooks_heard} heard".format(**network)
    )
    if depth := network["depth"]:
        taken = network["codebooks_own"]
        rest = f" ({taken} are taken: the others foresee your side)"
        out(
            "depth: {layers} layers of {width}, {steps} steps per frame".format(**depth)
            + (rest if taken < depth["steps"] else "")
        )
    if image := facts["image"]:
        out(
            "sees an image of {size} x {size} pixels as {patches} patches: {layers} "
            "layers of {width}".format(**image)
        )
    for title in ("sampling", "conditions", "voices"):
        if facts[title]:
            out(f"{title}: {json.dumps(facts[title], ensure_ascii=False)}")


def _parts(parts: dict[str, Json]) -> "Table":
    from rich.table import Table

    table = Table("part")
    for column in ("parameters", "stored", "read per step", "layers"):
        table.add_column(column, justify="right")
    for name, part in parts.items():
        layers = ", ".join(f"{n} of {bits}" for bits, n in part["layers"].items())
        parameters = f"{part['parameters'] / 1e6:,.1f} M"
        read = size(part["step_bytes"])
        table.add_row(name, parameters, size(part["bytes"]), read, layers)
    return table


def size(count: float) -> str:
    """Bytes for people, in decimal units like disks and bandwidths."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
