"""Checkpoints of a folder as they are kept: which are whole, which go, and how one comes into another folder."""

from dkcore.checkpoints.folder import MANIFEST, Folder, name_of

__all__ = ["copy", "remove_begun", "tidy"]


def whole(folder: Folder) -> list[int]:
    """The numbers of the whole checkpoints, from the oldest on."""
    return [number for number in folder.numbers() if folder.whole(name_of(number))]


def tidy(folder: Folder, keep: int) -> None:
    """Remove checkpoints but the newest few."""
    for number in whole(folder)[:-keep]:
        folder.remove(name_of(number))


def remove_begun(folder: Folder, before: int) -> None:
    """Remove what was begun before the checkpoint of that number, and never came to be one."""
    there = whole(folder)
    for number in folder.numbers(drafts=True):
        if number < before and number not in there:
            folder.remove(folder.draft(name_of(number)))


def copy(source: Folder, name: str, target: Folder) -> None:
    """Put a checkpoint into another folder, whole or not at all. OSError when there is no room."""
    draft = target.draft(name)
    target.make(draft)
    try:
        for part in source.names(name):
            if part != MANIFEST:
                with target.writing(draft, part) as stream:
                    for chunk in source.chunks(name, part):
                        stream.write(chunk)
        target.publish(name, source.read(name, MANIFEST))
    except OSError:
        target.remove(draft)
        raise
