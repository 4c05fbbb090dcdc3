"""Folders of pictures with one subfolder for each class, whole or as train, val and test."""

import os

from siamese_np.datasets.images import PART_FOLDERS, image_files
from siamese_np.datasets.pictures import Files, Source, named
from siamese_np.errors import DataError


def class_folders(root: str) -> Source:
    """The pictures in `root`, by the names of its subfolders.

    If all its subfolders have names such as ``train``, ``val`` and ``test``, the classes are their subfolders. Without
    ``test``, ``val`` is for testing. Hidden files, and pictures beside the subfolders, are left out.
    """
    folders = _subfolders(root)
    parts = [PART_FOLDERS.get(name.casefold(), "") for name in folders]
    if "" not in parts and "train" in parts and _subfolders(os.path.join(root, folders[parts.index("train")])):
        if len(set(parts)) < len(parts):
            raise DataError(f"{root} holds two folders for the same part: {', '.join(folders)}")
        roots = {part: os.path.join(root, name) for part, name in zip(parts, folders, strict=True)}
        if set(roots) == {"train", "validation"}:
            roots["test"] = roots.pop("validation")
        if "test" not in roots:
            roots = {"all": roots["train"]}
    else:
        roots = {"all": root}
    paths: dict[str, list[str]] = {}
    labels: dict[str, list[str]] = {}
    for part, place in roots.items():
        paths[part], labels[part] = [], []
        for name in _subfolders(place):
            own = image_files(os.path.join(place, name), none=True)
            paths[part] += own
            labels[part] += [name] * len(own)
        if not paths[part]:
            loose = "pictures, but none in" if image_files(place, none=True) else "no pictures in"
            raise DataError(f"{place} holds {loose} subfolders, of which each class needs one, named after the class")
    classes, names = named(labels)
    pictures = {part: Files(own) for part, own in paths.items()}
    return Source(os.path.basename(os.path.realpath(root)), "folder", dict(pictures), classes, names)


def _subfolders(root: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read {root}: {error.strerror}") from error
