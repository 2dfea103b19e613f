"""Small tools of the models."""

from .sampling import Sampler

__all__ = ["Sampler"]
