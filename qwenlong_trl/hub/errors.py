"""What went wrong with the Hub, and what to do about it, instead of a traceback of the client library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class HubPushError(OSError):
    """A push that did not come to its end. The message says why, what was published, and what to do."""


@contextmanager
def explained(repo_id: str | None, retry: str, published: str = "Nothing was published") -> Iterator[None]:
    """
    Around calls of the Hub: errors of the client library become [`HubPushError`].

    Args:
        repo_id (`str`, *optional*):
            Where something was to be pushed.
        retry (`str`):
            What repeats it, as an imperative: "run the same command again".
        published (`str`, *optional*):
            What is there if the error comes now: a commit is the last request of a push, and before it there is
            nothing.
    """
    try:
        yield
    except HubPushError:
        raise
    except Exception as error:
        message = _explanation(error, repo_id or "the repository", retry, published)
        if message is None:
            raise
        raise HubPushError(message) from error


def _explanation(error: Exception, repo_id: str, retry: str, published: str) -> str | None:
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:  # huggingface_hub from 2 on, and before
        import httpx2 as httpx
    except ImportError:
        import httpx

    # Uploads run in threads, whose errors come wrapped.
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    for one in chain:
        if isinstance(one, LocalTokenNotFoundError):
            return f"there is no token for the Hub: run `hf auth login`, or set HF_TOKEN. {published}"
        if isinstance(one, OfflineModeIsEnabled):
            return f"HF_HUB_OFFLINE is set, so the Hub is not asked: unset it and {retry}. {published}"
        if isinstance(one, HfHubHTTPError):
            return _of_status(one, repo_id, retry, published)
        if isinstance(one, httpx.HTTPError | ConnectionError):
            return (
                f"the connection to the Hub broke ({type(one).__name__}: {one}). {published}, unless it was only the "
                f"answer to the last request that got lost. In either case {retry}: what has arrived is not sent again"
            )
    return None


def _of_status(error, repo_id: str, retry: str, published: str) -> str:
    status = error.response.status_code
    said = (error.server_message or "").strip() or f"it answered {status}"
    if status == 401:
        return (
            f"the Hub does not accept the token ({said}): make one with the role write at "
            f"https://huggingface.co/settings/tokens, run `hf auth login` (HF_TOKEN goes before it), and "
            f"{retry}. {published}"
        )
    if status == 403:
        return (
            f"the token may not write to {repo_id} ({said}): the name must begin with your user name or an "
            f"organisation that you may write to, and the token needs the role write. Then {retry}. {published}"
        )
    if status == 404:
        return (
            f"the Hub has no {repo_id}, or no such revision, or the token may not see it ({said}). Check the name, "
            f"the type of the repository and the revision, then {retry}. {published}"
        )
    if status in (409, 412):
        return (
            f"{repo_id} was changed by someone else at the same time ({said}): look at what is there, then {retry}. "
            f"{published}"
        )
    if status == 400:
        return f"the Hub refuses what was sent ({said}). {published}"
    if status == 429 or status >= 500:
        return (
            f"the Hub answers with {status} ({said}), also when asked again. {published}. Wait a while "
            f"(https://status.huggingface.co) and {retry}: what has arrived is not sent again"
        )
    return f"the Hub answers with {status} ({said}). {published}"
