"""Small tools: files, downloads, sampling, text, optional packages."""

from .sampling import Sampler

__all__ = ["Sampler"]
