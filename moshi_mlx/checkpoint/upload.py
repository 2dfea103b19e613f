"""Push a checkpoint folder to the Hugging Face hub."""

import re
from pathlib import Path

from ..errors import CheckpointError

LOGIN = "run 'hf auth login' with a token that may write, or set HF_TOKEN"


def check_repo_name(repo: str) -> None:
    """Raise a CheckpointError for an invalid name of a repository."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise CheckpointError(f"{repo!r} is not a hub repository: write OWNER/NAME.")


def upload(folder: Path, repo: str, *, private: bool = False) -> str:
    """Create ``repo`` if need be and put the folder's files into it.

    Returns: the repository's address.
    Raises: CheckpointError if the hub refuses or cannot be reached.
    """
    import huggingface_hub as hub
    from huggingface_hub.utils import HFValidationError

    check_repo_name(repo)
    api = hub.HfApi()
    try:
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            commit_message="Upload with moshi_mlx",
            ignore_patterns=["*.part", "*.part.safetensors", ".*"],
        )
    except HFValidationError as error:
        raise CheckpointError(f"{repo!r} is not a hub repository: {error}") from error
    except Exception as error:
        sentence = _explain(error, repo)
        if sentence is None:
            raise
        raise CheckpointError(f"{sentence} The folder is at {folder}.") from error
    return str(url)


def _explain(error: Exception, repo: str) -> str | None:
    """The sentence for a failed upload; None for an error that is not the hub's."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    if isinstance(error, LocalTokenNotFoundError):
        return f"{repo} cannot be written without a token: {LOGIN}."
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"the hub does not let you write to {repo}: {LOGIN}."
    if isinstance(error, HfHubHTTPError) and status is not None:
        return f"the hub refused {repo}: {str(error).splitlines()[0]}."
    # httpx's and requests' errors of connection share a base with the hub's or OSError
    if isinstance(error, (OSError, *HfHubHTTPError.__bases__[:1])):
        return f"{repo} cannot be written, the hub is out of reach: try again later."
    return None
