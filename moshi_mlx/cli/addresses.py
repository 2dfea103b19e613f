"""The addresses of a server, in words for people."""

from collections.abc import Sequence
from urllib.parse import quote


class Addresses:
    """The addresses of a server, for people.

    Args:
        host: the address that it is bound to.
        secure: whether it uses TLS.
        token: the token that clients need, or None.
        fingerprint: of a self-signed certificate.
    """

    def __init__(self, host: str, secure: bool, token: str | None, fingerprint: str):
        self.host, self.secure = host, secure
        self.token, self.fingerprint = token, fingerprint

    def urls(self, port: int) -> list[str]:
        """Addresses of the page, first the one for this machine's own browser."""
        from ..serve.gate.tls import own_addresses

        everywhere = self.host in ("0.0.0.0", "::", "")
        hosts = ["localhost", *own_addresses()] if everywhere else [self.host]
        scheme = "https" if self.secure else "http"
        query = "" if self.token is None else f"/?token={quote(self.token)}"
        bracketed = [f"[{h}]" if ":" in h else h for h in hosts]
        return [f"{scheme}://{h}:{port}{query}" for h in bracketed]

    def words(self, port: int, served: Sequence[str] = ()) -> str:
        """The lines to print when the server runs.

        Args:
            served: lines about what it serves.
        """
        from ..serve.gate.security import is_local

        lines = [f"Moshi is at {self.urls(port)[0]}"]
        lines += [f"  from other machines: {url}" for url in self.urls(port)[1:]]
        lines += served
        if self.fingerprint:
            lines.append(
                "Browsers warn once about the certificate, because nobody has signed "
                f"it. Its SHA-256 fingerprint is\n  {self.fingerprint}"
            )
        if not self.secure and not is_local(self.host):
            lines.append(
                "Browsers on other machines give the microphone only to https pages: "
                "add --https for them."
            )
        return "\n".join([*lines, "Ctrl-C ends it."])
