"""Results put in their place whole, or not at all; and elsewhere when there is no room for them."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from dkcore.errors import expected

__all__ = ["keep", "put", "save_whole", "write_whole"]


def put(source: Path, folder: Path) -> None:
    """Move a file into a folder: there is the old one or the new one, never half of it. OSError: the source is still there."""
    draft = folder / f".{source.name}.draft"
    try:
        shutil.copyfile(source, draft)
        os.replace(draft, folder / source.name)
    finally:
        draft.unlink(missing_ok=True)
    source.unlink()


def keep(files: Iterable[Path], wanted: Path, failure: OSError) -> OSError:
    """Put files where there is room, as they did not get where they were wanted; the error that says where they are."""
    left = [file for file in files if file.exists()]
    reason = f"{failure.strerror} ({failure.filename2})" if failure.filename2 else failure.strerror or failure
    for place in (tempfile.gettempdir(), Path.home(), Path.cwd()):
        with contextlib.suppress(OSError):  # nor is there any room here
            folder = Path(tempfile.mkdtemp(prefix="dkcore-kept-", dir=place))
            try:
                for file in left:
                    shutil.copyfile(file, folder / file.name)
            except OSError:
                shutil.rmtree(folder)
                raise
            names = ", ".join(file.name for file in left)
            advice = f"Nothing is lost: {names} of this training are in {folder}."
            return OSError(failure.errno, expected(f"room for the results in {wanted}", reason, advice))
    advice = "Nor was there any in the temporary folder, at home or here: they are lost."
    return OSError(failure.errno, expected(f"room for the results in {wanted}", reason, advice))


def write_whole(text: str, path: Path) -> None:
    """Write a small file: whoever looks for it finds none, the old one or the new one, never half of it. OSError."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(text)
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def save_whole(save: Callable[[Path], None], path: Path) -> None:
    """Have ``save(path)`` called for a draft beside the path, which then takes its place; elsewhere when it is full there."""
    draft = path.with_name(f".draft-{path.name}")
    try:
        save(draft)
        os.replace(draft, path)
        return
    except OSError as failure:
        draft.unlink(missing_ok=True)
        full = failure
    with tempfile.TemporaryDirectory(prefix="dkcore-") as folder:
        save(Path(folder, path.name))
        raise keep([Path(folder, path.name)], path.parent, full)
