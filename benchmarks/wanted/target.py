"""A figure that a benchmark prints, and what it should be."""

import re
from collections.abc import Callable
from typing import NamedTuple

NUMBER = r"([-+\d.e]+)"
SIGNS = {
    "≤": lambda found, wanted: found <= wanted,
    "≥": lambda found, wanted: found >= wanted,
    "<": lambda found, wanted: found < wanted,
    ">": lambda found, wanted: found > wanted,
    "=": lambda found, wanted: found == wanted,
}


def first(found):
    """The first of the figures."""
    return found[0]


def least(found):
    """The smallest."""
    return min(found, key=float)


def most(found):
    """The largest."""
    return max(found, key=float)


class Target(NamedTuple):
    """A figure of a benchmark's output and what it should be.

    ``pattern`` has one group; ``take`` makes one figure of all that match. ``wanted`` is a sign and
    a number, or a sign and words, when ``rival`` finds the number in the same output; empty for a
    figure that has no target.
    """

    label: str
    benchmark: str
    pattern: str
    wanted: str = ""
    take: Callable = first
    rival: str = ""

    def line(self, output):
        """``(found, wanted, met)``: texts, and whether the target is met, None without one."""
        found = self.take(self.matches(self.pattern, output))
        if not self.wanted:
            return found, "", None
        sign, _, wanted = self.wanted.partition(" ")
        if self.rival:
            number = first(self.matches(self.rival, output))
            return found, f"{sign} {number}, {wanted}", SIGNS[sign](value(found), value(number))
        return found, self.wanted, SIGNS[sign](value(found), value(wanted))

    def matches(self, pattern, output):
        """What a pattern finds; an error if it is nothing."""
        found = re.findall(pattern, output, re.MULTILINE)
        if not found:
            raise LookupError(f"{self.benchmark} printed nothing that matches {pattern!r}")
        return found


def value(text):
    """A printed number, spaces between thousands and a percent sign included."""
    return float(text.replace(" ", "").replace("%", ""))
