"""What can be known of installed packages: by an index of their releases, by what each of them needs."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


class Releases:
    """A session that answers for a release by what is told of its project, where it is the newest.

    :param session: asks the index.
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    def get(self, url: str, timeout: int) -> Any:
        """What is known of a release, by its address: ``…/PROJECT/VERSION/json``."""
        answer = self._session.get(url=url, timeout=timeout)
        if answer.status_code != 404:
            return answer
        project, version, _ = url.rsplit("/", 2)
        told = self._session.get(url=f"{project}/json", timeout=timeout)
        newest = told.json()["info"]["version"] if told.status_code == 200 else None
        return told if newest is not None and Version(newest) == Version(version) else answer


def needed(package: str, extras: Iterable[str] = ()) -> set[str]:
    """The packages that one needs to run, itself left out, by their normal names."""
    found: set[str] = set()
    waiting = [(package, frozenset(extras))]
    seen = set(waiting)
    while waiting:
        name, chosen = waiting.pop()
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            # for another system than this
            continue
        found.add(canonicalize_name(name))
        for requirement in map(Requirement, lines):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *chosen)):
                following = (requirement.name, frozenset(requirement.extras))
                if following not in seen:
                    seen.add(following)
                    waiting.append(following)
    return found - {canonicalize_name(package)}
