"""A folder to the Hub, in one commit: all of it is there afterwards, or none of it.

`HfApi.upload_folder` splits a folder into several commits where `hf_xet` is installed, so that a push that breaks off
leaves a part; `create_commit` does not.

```python
>>> push_folder("out", "me/my-reader", private=True)
'https://huggingface.co/me/my-reader/commit/…'
```
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

from .errors import HubPushError, explained
from .plan import PushPlan, plan_push
from .render import check_card


def push_folder(
    folder: str | Path,
    repo_id: str,
    repo_type: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    message: str | None = None,
    include: Sequence[str] = (),
) -> str:
    """
    Pushes what [`plan_push`] lists. The repository and the branch are made if they are not there; files that the
    repository has and the folder has not stay as they are.

    Args:
        folder (`str` or `Path`):
            What is pushed.
        repo_id (`str`):
            `"owner/name"`, or a name of your own.
        repo_type (`str`, *optional*):
            `"model"`, `"dataset"` or `"space"`. By default what the files say.
        private (`bool`, *optional*):
            Whether a new repository is private. With `True`, one that is there and public is refused.
        revision (`str`, *optional*):
            Branch. `main` by default.
        token (`str`, *optional*):
            Of the Hub. By default that of `hf auth login` or `HF_TOKEN`.
        message (`str`, *optional*):
            Of the commit.
        include (`Sequence[str]`, *optional*):
            As in [`plan_push`].

    Returns:
        `str`: address of the commit.

    Raises:
        `ValueError`: the folder or its card is not as it should be; the Hub was not asked.
        [`HubPushError`]: the Hub refused, or could not be reached.
    """
    plan = checked_plan(folder, repo_type, include)
    api = HfApi(token=token, library_name="qwenlong-trl")
    with explained(repo_id, "run the same command again"):
        url = api.create_repo(repo_id, repo_type=plan.repo_type, private=private, exist_ok=True, space_sdk=_sdk(plan))
        repo_id = url.repo_id
        if private and not api.repo_info(repo_id, repo_type=plan.repo_type).private:
            raise HubPushError(
                f"{repo_id} is there already, and it is public: make it private first (hf repos settings {repo_id} "
                f"--private), or push without asking for a private one. Nothing was published"
            )
        if revision not in (None, "main"):
            api.create_branch(repo_id, branch=revision, repo_type=plan.repo_type, exist_ok=True)
        commit = api.create_commit(
            repo_id,
            [CommitOperationAdd(file.path, plan.folder / file.path) for file in plan.files],
            commit_message=message or f"Upload {plan.folder.resolve().name} with qwenlong-trl",
            repo_type=plan.repo_type,
            revision=revision,
        )
    return commit.commit_url


def checked_plan(folder: str | Path, repo_type: str | None = None, include: Sequence[str] = ()) -> PushPlan:
    """[`plan_push`], after a look at the card: what the Hub would refuse at the end is refused now."""
    plan = plan_push(folder, repo_type, include)
    card = plan.folder / "README.md"
    if any(file.path == card.name for file in plan.files):
        try:
            check_card(card.read_text(encoding="utf-8"), plan.repo_type)
        except ValueError as error:
            raise ValueError(f"{card}: {error}") from None
    elif plan.repo_type == "space":
        raise ValueError(
            f"{card} is not there; a Space needs one, with `title`, `sdk` and `app_file` in its front matter"
        )
    if plan.repo_type == "space":
        _check_app(plan, card)
    return plan


def _check_app(plan: PushPlan, card: Path) -> None:
    from huggingface_hub import SpaceCard

    app = SpaceCard.load(card).data.app_file
    if app not in {file.path for file in plan.files}:
        raise ValueError(f"{card} names {app!r} as its `app_file`, which is not among what is pushed")


def _sdk(plan: PushPlan) -> str | None:
    if plan.repo_type != "space":
        return None
    from huggingface_hub import SpaceCard

    return SpaceCard.load(plan.folder / "README.md").data.sdk
