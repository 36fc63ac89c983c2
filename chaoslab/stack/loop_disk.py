"""A file as a disk of its own, and the cut of its power. Linux, as root.

It needs nothing but Python's library, because it also runs in containers, where its source is passed to `python3 -c`:

    hold FILE…         attach these files and write their devices, on one line; they stay while the standard input is open
    watch FOLDER NAME  for each line that is read, write whether the file system that is mounted at FOLDER is `open` or `cut`;
                       for the line `cut`, cut it first, if its file's path ends with NAME
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
from pathlib import Path

SIZE = "4G"  # of each file; they are sparse
# No tables of inodes to fill in the background, which would be writes of ours in the middle of a run.
MAKE = ("mkfs.ext4", "-q", "-F", "-m", "0", "-N", "65536", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1")
EMPTY = ("debugfs", "-w", "-R", "rmdir /lost+found")  # a server may refuse a folder that is not empty
MOUNT_OPTIONS = "noinit_itable"

_GET_FREE, _CONFIGURE = 0x4C82, 0x4C0A  # LOOP_CTL_GET_FREE, LOOP_CONFIGURE
_AUTOCLEAR = 4
_CONFIG = struct.Struct("=II52xI64s176x")  # loop_config: the file, block size; of loop_info64 the flags and the name
_SHUTDOWN = 0x8004587D  # _IOR('X', 125, u32), as ext4 and XFS have it
_NOTHING_FLUSHED = struct.pack("=I", 2)  # neither the journal nor data
_LOOP_MAJOR = 7
_TRIES = 100  # another process may take the device that was free


def attach(file: Path) -> tuple[str, int]:
    """Attach a file as a loop device; the device and a descriptor of it.

    The device detaches by itself once it is not mounted and the descriptor is closed, however that comes about.
    """
    backing = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            device = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
            opened = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(opened, _CONFIGURE, _CONFIG.pack(backing, 0, _AUTOCLEAR, file.name.encode()[:63]))
                return device, opened
            except OSError as refused:
                os.close(opened)
                if refused.errno != errno.EBUSY:
                    raise
    finally:
        os.close(control)
        os.close(backing)
    raise OSError(errno.EBUSY, "no loop device is free")


def cut(folder: Path, name: str) -> None:
    """Stop the file system that is mounted at a folder: nothing more of it reaches the disk, and nothing on it can be changed.

    Raises OSError where the folder is on no loop device, or on one whose file's path does not end with `name`: the same call
    would stop the machine's own file system.
    """
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        device = os.fstat(opened).st_dev
        if os.major(device) != _LOOP_MAJOR:
            raise OSError(errno.EINVAL, "it is not on a loop device")
        file = Path(f"/sys/dev/block/{_LOOP_MAJOR}:{os.minor(device)}/loop/backing_file").read_text().rstrip("\n")
        if not file.endswith(f"/{name}"):
            raise OSError(errno.EINVAL, f"it is on {file}")
        fcntl.ioctl(opened, _SHUTDOWN, _NOTHING_FLUSHED)
    finally:
        os.close(opened)


def is_cut(folder: Path) -> bool:
    """Whether the file system that is mounted at a folder takes nothing any more."""
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as refused:
        if refused.errno not in (errno.EIO, errno.EROFS):
            raise
        return True
    return False


def attached(part: str) -> list[str]:
    """The loop devices of this machine with a file whose path has this part."""
    files = {file.parts[3]: file.read_text() for file in Path("/sys/block").glob("loop*/loop/backing_file")}
    return sorted(f"/dev/{name}" for name, path in files.items() if part in path)


def main(verb: str, *arguments: str) -> None:
    if verb == "hold":
        held = [attach(Path(file)) for file in arguments]
        _say(" ".join(device for device, _ in held))
        sys.stdin.read()
        return
    folder, name = Path(arguments[0]), arguments[1]
    for line in sys.stdin:
        try:
            if line.strip() == "cut":
                cut(folder, name)
            _say("cut" if is_cut(folder) else "open")
        except OSError as refused:
            _say(refused.strerror or str(refused))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
