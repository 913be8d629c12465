"""Audit: the installed packages held against known vulnerabilities: ``python -m tests.audit``.

By pip-audit, which asks the package index about each release. A mirror may know projects only, each with
the vulnerabilities of its newest release: it is asked for that, which is good for who has the newest. What
is needed to run and could not be held against anything is a failure, as a vulnerability is: "none found"
never means that nobody looked. Of packages that only tests and developers need, findings are only said.
"""

from __future__ import annotations

import sys

from packaging.utils import canonicalize_name
from pip_audit._dependency_source import PipSource
from pip_audit._service.interface import ResolvedDependency, VulnerabilityService
from pip_audit._service.pypi import PyPIService

from .releases import Releases, needed

#: Seconds for one answer.
TIMEOUT = 15


def faults(service: VulnerabilityService, package: ResolvedDependency) -> list[str]:
    """What is known against a package, or that nothing could be known."""
    named = f"{package.name} {package.version}"
    looked, vulnerabilities = service.query(package)
    if looked.is_skipped():
        return [f"{named}: not audited, the index knows nothing of this release"]
    return [
        f"{named}: {one.id}, mended in {[*map(str, one.fix_versions)]}: {one.description[:200]}"
        for one in vulnerabilities
    ]


def main() -> int:
    """Print what was found; 1 if it is of what is needed to run."""
    service = PyPIService(timeout=TIMEOUT)
    service.session = Releases(service.session)  # type: ignore[assignment]
    wanted = needed("realtime")
    packages = {
        canonicalize_name(one.name): one
        for one in PipSource(local=True, skip_editable=True).collect()
        if isinstance(one, ResolvedDependency)
    }
    failed = 0
    for name, package in sorted(packages.items()):
        found = faults(service, package)
        for line in found:
            print(line if name in wanted else f"(not needed to run) {line}")
        failed += bool(found) and name in wanted
    here = wanted & packages.keys()
    print(
        f"{len(here)} packages that are needed to run: {len(here) - failed} without known vulnerabilities"
    )
    return 1 if failed or not here else 0


if __name__ == "__main__":
    sys.exit(main())
