"""A progress bar on what takes seconds: rich where installed, else a line on stderr."""

import sys


def progress(items, description, verbose):
    """Iterate over ``items`` (with a length), showing progress when ``verbose``."""
    if not verbose:
        return iter(items)
    try:
        from rich.progress import track
    except ImportError:
        return _lines(items, description)
    return track(items, description=description)


def _lines(items, description):
    total = len(items)
    for done, item in enumerate(items, 1):
        yield item
        end = "\n" if done == total else ""
        print(f"\r{description}: {done}/{total}", end=end, file=sys.stderr, flush=True)
