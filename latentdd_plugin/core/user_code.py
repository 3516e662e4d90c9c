"""Import the modules that a user names by path, without making their folders importable otherwise.

The working folder may hold anything: a file called `numexpr.py` there must not run because pandas looks for a module of
that name. Hence no folder is ever added to `sys.path`. A finder at the end of `sys.meta_path` looks into a folder only
for imports that are made by the user's own files there.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType


class SiblingFinder(MetaPathFinder):
    """Finder of top-level modules that lie beside the file that imports them, for registered files only."""

    def __init__(self) -> None:
        self._roots: dict[Path, Path] = {}  # a file, or the folder of a package -> where it imports from

    def register(self, place: Path, root: Path) -> None:
        """Let the file `place`, or every file in the package folder `place`, import what lies in `root`."""
        self._roots[place] = root

    @contextmanager
    def importing_from(self, root: Path) -> Iterator[None]:
        """Let this module itself import from `root` until the block ends."""
        here = Path(__file__)
        self._roots[here] = root
        try:
            yield
        finally:
            del self._roots[here]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module beside a registered importer, or None."""
        if path is not None:  # a submodule, which its package finds
            return None
        root = self._root_of(_importer())
        if root is None:
            return None
        sys.path_importer_cache.pop(str(root), None)  # its listing may be older than the file
        spec = PathFinder.find_spec(fullname, [str(root)])
        if spec is None:
            return None
        if spec.submodule_search_locations is None:
            self.register(Path(spec.origin or ""), root)
        else:
            spec.submodule_search_locations = list(spec.submodule_search_locations)
            for folder in spec.submodule_search_locations:
                self.register(Path(folder), root)
        return spec

    def _root_of(self, file: Path) -> Path | None:
        return next((self._roots[place] for place in (file, *file.parents) if place in self._roots), None)


SIBLINGS = SiblingFinder()


def _importer() -> Path:
    """Return the file whose code is importing a module at the moment."""
    frame = sys._getframe(2)  # the only way to learn who imports
    machinery = (importlib.__file__, importlib.util.__file__)
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if name not in machinery and not name.startswith("<frozen importlib"):
            break
        frame = frame.f_back
    return Path(frame.f_code.co_filename)


def import_named(dotted: str) -> ModuleType:
    """Import `package.module`: an installed one, else one that lies in the working folder."""
    _install()
    with SIBLINGS.importing_from(Path.cwd()):
        return importlib.import_module(dotted)


def import_file(path: Path) -> ModuleType:
    """Import a file, wherever it lies, as a module named by its stem; read it again if it has changed."""
    _install()
    return _import_file(path.resolve(), path.stat().st_mtime_ns)


@cache
def _import_file(path: Path, _changed: int) -> ModuleType:
    name = path.stem.replace(".", "_")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    owner = sys.modules.get(name)  # another module that has this name keeps it
    other = owner or importlib.util.find_spec(name)
    free = other is None or getattr(other, "__file__" if owner else "origin", None) == str(path)
    SIBLINGS.register(path, path.parent)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        free = False
        raise
    finally:
        if not free:
            del sys.modules[name]
            sys.modules.update({name: owner} if owner else {})
    return module


def _install() -> None:
    if SIBLINGS not in sys.meta_path:
        sys.meta_path.append(SIBLINGS)  # last: what is installed comes first
