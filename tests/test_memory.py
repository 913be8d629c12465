"""What this process has of memory, and what it may have."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from realtime.memory import group_limit, resident_bytes


class ResidentTests(SynchronousTestCase):
    def test_it_is_this_process(self) -> None:
        before = resident_bytes()
        self.assertGreater(before, 1_000_000)
        block = bytearray(b"x" * 64_000_000)
        self.assertGreater(resident_bytes(), before + len(block) // 2)


class GroupTests(SynchronousTestCase):
    """The files of the kernel, laid out as it does (cgroups(7))."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp())

    def limit(self, groups: str, **files: str) -> int:
        """The limit; files by path below ``/sys/fs/cgroup``, with two underscores for a slash."""
        for name, text in {"proc/self/cgroup": groups}.items():
            self.write(self.root / name, text)
        for name, text in files.items():
            self.write(self.root / "sys/fs/cgroup" / name.replace("__", "/").replace("_max", ".max"), text)
        return group_limit(self.root)

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def test_nothing_known(self) -> None:
        self.assertEqual(group_limit(self.root), 0)
        self.assertEqual(self.limit("0::/\n"), 0)
        self.assertEqual(self.limit("rubbish\n"), 0)

    def test_container(self) -> None:
        """In a container the group is the mount itself."""
        self.assertEqual(self.limit("0::/\n", memory_max="1073741824\n"), 1073741824)

    def test_no_limit(self) -> None:
        self.assertEqual(self.limit("0::/a\n", a__memory_max="max\n"), 0)

    def test_the_least_on_the_way_up(self) -> None:
        """A group may not use more than those around it."""
        files = {"a__b__memory_max": "3000\n", "a__memory_max": "2000\n", "memory_max": "max\n"}
        self.assertEqual(self.limit("0::/a/b\n", **files), 2000)

    def test_version_1(self) -> None:
        place = self.root / "sys/fs/cgroup/memory"
        self.write(place / "memory.limit_in_bytes", "9223372036854771712\n")
        groups = "11:cpu,cpuacct:/x\n10:memory:/x\n"
        self.assertEqual(self.limit(groups), 0)
        self.write(place / "x/memory.limit_in_bytes", "5000\n")
        self.assertEqual(self.limit(groups), 5000)

    def test_outside(self) -> None:
        """A path that leads out of the mount is followed nowhere."""
        self.assertEqual(self.limit("0::/../../x\n", memory_max="7\n"), 7)
