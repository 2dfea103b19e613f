"""The microphones and loudspeakers of this machine, for people."""

from ..errors import AudioError


def print_devices() -> None:
    """A table of the devices.

    Raises: AudioError if there is no microphone, or no loudspeaker.
    """
    from rich.console import Console
    from rich.table import Table

    from ..audio.device import list_devices
    from ..live.devices import lacking

    table = Table(box=None, pad_edge=False)
    for title in ("number", "name", "microphone", "speaker", "rate", "system"):
        table.add_column(title)

    def channels(count: int, default: bool) -> str:
        return f"{count} channels{' (default)' if default else ''}" if count else ""

    devices = list_devices()
    for d in devices:
        ends = (
            channels(d.inputs, d.default_input),
            channels(d.outputs, d.default_output),
        )
        table.add_row(str(d.number), d.name, *ends, f"{d.rate} Hz", d.host)
    if devices:
        Console().print(table)
    if sentence := lacking(devices):
        raise AudioError(sentence)
