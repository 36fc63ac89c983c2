"""Volumes whose power can be cut: each is an ext4 file system of its own, in a file that is attached as a loop device.

Linux, as root. The mounts lie below the run's folder, and the undo journal takes away all that is mounted there; the loop
devices go with them.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from chaoslab import process
from chaoslab.clock import NS_PER_MS, SYSTEM, Clock, Deadline, wait_until
from chaoslab.errors import ChaoslabError, EnvironmentFault, NotReady, StackError
from chaoslab.stack.loop_disk import EMPTY, MAKE, MOUNT_OPTIONS, SIZE, attach, cut, is_cut
from chaoslab.stack.protocol import CutReport

IMAGES = ".disks"  # the folder of the files, beside the volumes, none of which has such a name
_MOUNT = ("mount", "-t", "ext4", "-o", MOUNT_OPTIONS)
_PROGRAMS = {"mkfs.ext4": "e2fsprogs", "debugfs": "e2fsprogs", "mount": "mount", "umount": "mount"}
_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"  # not in the PATH of everybody
_CAP_SYS_ADMIN = 21
_CALL_S = 20.0
_UNMOUNT_S = 5.0


def why_no_cut() -> str | None:
    """Why this machine cannot cut the power of volumes, in words with the cure; None where nothing is known against it."""
    if sys.platform != "linux":
        return "volumes are ext4 file systems on loop devices then, which only Linux has; use --runtime compose"
    if not _may_mount():
        return "only root may mount the file systems that are cut; run it as root, or use --runtime compose"
    if not Path("/dev/loop-control").exists():
        return "this machine has no loop devices (/dev/loop-control); load the kernel's module loop, or use --runtime compose"
    missing = {package: name for name, package in _PROGRAMS.items() if shutil.which(name, path=_search_path()) is None}
    if missing:
        return f"{', '.join(missing.values())} is not on this machine; install {', '.join(missing)}"
    return None


def _may_mount() -> bool:
    """Whether this process has CAP_SYS_ADMIN; root in a container may not."""
    status = Path("/proc/self/status").read_text().splitlines()
    allowed = next((int(line.split()[1], 16) for line in status if line.startswith("CapEff:")), 0)
    return os.geteuid() == 0 and bool(allowed >> _CAP_SYS_ADMIN & 1)


def _search_path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_FOLDERS}"


@dataclass
class Disk:
    """One volume. `device`, `held`: the loop device and a descriptor that keeps it; none while it is not attached."""

    folder: Path
    file: Path
    device: str = ""
    held: int = -1


@dataclass
class Disks:
    """The file systems of one run. `environment`: of the programs that make and mount them, by which the reaper finds them."""

    data: Path
    environment: Mapping[str, str]
    clock: Clock = SYSTEM
    _disks: dict[Path, Disk] = field(default_factory=dict)

    def make(self, folders: Iterable[Path]) -> None:
        """Mount a new file system at each of these folders, unless there is one. Raises EnvironmentFault."""
        new = [Disk(folder, self.data / IMAGES / f"{folder.name}.img") for folder in folders if folder not in self._disks]
        if not new:
            return
        (self.data / IMAGES).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._disks |= {disk.folder: disk for disk in new}
        with ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(self._make, new))

    def _make(self, disk: Disk) -> None:
        disk.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._run(*MAKE, str(disk.file), SIZE)
        self._run(*EMPTY, str(disk.file))
        self._mount(disk)
        disk.folder.chmod(0o700)

    def _mount(self, disk: Disk) -> None:
        try:
            disk.device, disk.held = attach(disk.file)
        except OSError as refused:
            raise EnvironmentFault(f"{disk.file} cannot be attached as a loop device: {refused.strerror}") from refused
        self._run(*_MOUNT, disk.device, str(disk.folder))
        if is_cut(disk.folder):
            raise StackError(f"the file system of {disk.folder.name} takes no changes after it was mounted again")

    def _run(self, *command: str) -> None:
        path = {"PATH": _search_path()}
        done = process.run(command, timeout_s=_CALL_S, env={**self.environment, **path})
        if done.returncode:
            raise EnvironmentFault(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")

    def cut(self, folders: Sequence[Path]) -> CutReport:
        """Cut the power of these. Raises StackError for one that is no file system of its own, or goes on."""
        if strange := [folder.name for folder in folders if folder not in self._disks]:
            raise StackError(f"the power of {', '.join(strange)} cannot be cut: that has to be requested before the boot")
        began_ns = self.clock.now_ns()
        try:
            for folder in folders:
                cut(folder, str(self._disks[folder].file.resolve()).lstrip("/"))  # as the kernel names it
            took_ms = (self.clock.now_ns() - began_ns) / NS_PER_MS
            uncut = [folder.name for folder in folders if not is_cut(folder)]
        except OSError as refused:
            raise StackError(f"the power of a volume cannot be cut: {refused.strerror}") from refused
        if uncut:
            raise StackError(f"volumes still take changes after the cut of their power: {', '.join(uncut)}")
        return CutReport(tuple(folder.name for folder in folders), took_ms)

    def bring_back(self, folders: Iterable[Path]) -> None:
        """Mount those of these again that were cut: the journal is replayed. Raises StackError, EnvironmentFault.

        Each gets a new loop device: nothing that the kernel may still hold of the old one is read.
        """
        for folder in folders:
            disk = self._disks.get(folder)
            if disk is not None and (not folder.is_mount() or is_cut(folder)):
                self._unmount(disk)
                self._mount(disk)

    def _unmount(self, disk: Disk) -> None:
        def is_gone() -> tuple[bool, str]:
            try:
                if disk.folder.is_mount():
                    self._run("umount", str(disk.folder))
            except EnvironmentFault as busy:
                return False, str(busy)
            return True, "unmounted"

        try:
            wait_until(f"{disk.folder.name} to be unmounted", is_gone, Deadline.after(_UNMOUNT_S, self.clock))
        except NotReady as busy:
            raise StackError(str(busy)) from busy
        if disk.held != -1:
            os.close(disk.held)
            disk.device, disk.held = "", -1

    def release(self) -> list[str]:
        """Unmount all of them; what could not be unmounted is returned in words. Idempotent."""
        left = []
        for disk in self._disks.values():
            try:
                self._unmount(disk)
            except ChaoslabError as failed:
                left.append(f"mount {disk.folder}: {failed}")
            with suppress(OSError):
                disk.file.unlink(missing_ok=True)
        return left
