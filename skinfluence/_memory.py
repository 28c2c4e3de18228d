"""The machine's memory, and refusal of results that it cannot hold."""

import os
from pathlib import Path

# Bytes that are taken without asking whether the machine has them.
SMALL = 2**24

CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def available_bytes():
    """Bytes this process may still take, or None where the system does not say."""
    found = [size for size in (_free_memory(), _cgroup_room()) if size is not None]
    return min(found) if found else None


def check_memory(n_bytes, what, instead):
    """Refuse to hold ``n_bytes`` at once if the machine has less.

    Parameters
    ----------
    n_bytes : int
    what : str
        Names the array, with its shape.
    instead : str
        The call that needs less.
    """
    if n_bytes < SMALL:  # asking the system takes longer than many a small array
        return
    available = available_bytes()
    if available is not None and n_bytes > available:
        raise MemoryError(
            f"{what} would take {n_bytes / 2**30:.3g} GiB; {available / 2**30:.3g} GiB are free "
            f"on this machine. {instead}"
        )


def _free_memory():
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" in names and "SC_PAGE_SIZE" in names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _cgroup_room():
    """What the limit of this process's control group leaves, page cache not counted as used."""
    for limit_file, used_file in CGROUP_FILES:
        try:
            limit = Path(limit_file).read_text().strip()
            used = int(Path(used_file).read_text())
            cached = _cached_bytes(Path(used_file).parent / "memory.stat")
        except (OSError, ValueError):
            continue
        return None if limit == "max" else max(0, int(limit) - used + cached)
    return None


def _cached_bytes(path):
    for line in path.read_text().splitlines():
        name, size = line.split()
        if name in ("inactive_file", "total_inactive_file"):
            return int(size)
    return 0
