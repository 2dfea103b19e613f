"""Errors that the user can fix.

Every message is one sentence: what came, what was expected, what to do. The command
line prints it as one line; any other exception keeps its traceback.

::

    MoshiError
    ├── CheckpointError   weights, tokenizers, downloads: missing, damaged, foreign
    ├── ConfigError       a setting or a config.json value (also a ValueError)
    │   └── MissingExtra  an optional package that is not installed
    ├── AudioError        a sound file, a microphone, a loudspeaker
    ├── ImageError        an image that cannot be read
    ├── ProtocolError     a message of a network client or server
    ├── NoPlace           all places of a model are taken: try again later
    └── NotServed         a server was asked for something that it does not offer
"""

import errno

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)  # the system's error codes


class MoshiError(Exception):
    """Base class of all errors that moshi_mlx raises on purpose."""


class CheckpointError(MoshiError):
    """Files of a model that are missing, damaged, unknown or cannot be downloaded."""


class ConfigError(MoshiError, ValueError):
    """A setting that contradicts itself, the model, or what is supported."""


class MissingExtra(ConfigError):
    """A package that only one of our extras installs."""


class AudioError(MoshiError):
    """Sound that cannot be read, written, recorded or played."""


class ImageError(MoshiError):
    """An image that cannot be read, is damaged or too large."""


class ProtocolError(MoshiError):
    """A message that a client or server should not have sent."""


class NoPlace(MoshiError):
    """All places of a model are taken: try again a little later."""


class NotServed(MoshiError):
    """A server was asked for something that it does not offer."""
