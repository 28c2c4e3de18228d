"""Tables in, tables out: reading what the user names, and files that are safe to open."""

import re
import unicodedata
from pathlib import Path

import numpy as np

READERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": None, ".parquet": None, ".pq": None}
# What a spreadsheet takes for the start of a formula, full-width forms included.
FORMULA = "=+\\-@\uff1d\uff0b\uff0d\uff20"
# At the start of a cell, and after whatever another locale may take for the end of one.
DANGEROUS = re.compile(rf"(^|[;,|\t\r\n\"'])(\s*)(?=[{FORMULA}])")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")
# Marks that turn the direction of the text that follows.
TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class UsageProblem(Exception):
    """What the user has to mend, in a sentence."""


def read_table(path):
    """A pandas dataframe from CSV, TSV or Parquet (also compressed CSV).

    Raises
    ------
    UsageProblem
        If there is no such file or it is no table.
    """
    import pandas as pd

    path = Path(path)
    suffixes = [s.lower() for s in path.suffixes]
    kind = next((s for s in reversed(suffixes) if s in READERS), None)
    if not path.exists():
        raise UsageProblem(f"there is no file {printable(path)}")
    if path.is_dir():
        raise UsageProblem(f"{printable(path)} is a folder, not a table")
    if kind is None:
        raise UsageProblem(
            f"{printable(path)} is not a .csv, .tsv or .parquet file; name it by what it holds"
        )
    try:
        if kind in (".parquet", ".pq"):
            table = pd.read_parquet(path)
        else:
            options = {"sep": READERS[kind]} if READERS[kind] else {"sep": None, "engine": "python"}
            table = pd.read_csv(path, encoding="utf-8-sig", **options)
    except Exception as error:  # pandas and pyarrow raise many kinds for a file that is no table
        reason = printable(str(error).strip().splitlines()[0] if str(error).strip() else error)
        raise UsageProblem(f"{printable(path)} cannot be read as a table: {reason}") from error
    table.columns = [str(name) for name in table.columns]
    repeated = sorted({n for n in table.columns if list(table.columns).count(n) > 1})
    if repeated:
        raise UsageProblem(f"the table has several columns named {printable(repeated[0])}")
    if len(table) == 0 or table.shape[1] < 2:
        raise UsageProblem(f"{printable(path)} has {len(table)} rows, {table.shape[1]} columns")
    return table


def write_flagged(table, path):
    """Write a dataframe as CSV that no spreadsheet takes for formulas.

    Words that begin like a formula get an apostrophe before them; numbers stay numbers.
    """
    safe = table.copy()
    for name in safe.columns:
        column = safe[name]
        if not np.issubdtype(getattr(column.dtype, "type", object), np.number):
            safe[name] = [None if _empty(v) else inert_cell(v) for v in column.tolist()]
    safe.columns = [inert_cell(name) for name in safe.columns]
    try:
        safe.to_csv(path, index=False, quoting=2, encoding="utf-8-sig", lineterminator="\r\n")
    except OSError as error:
        raise UsageProblem(f"{printable(path)} cannot be written: {error.strerror}") from error


def write_text(text, path):
    """Write a text file, or say in a sentence why not."""
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageProblem(f"{printable(path)} cannot be written: {error.strerror}") from error


def inert_cell(value):
    """A cell's text with an apostrophe before whatever a spreadsheet would evaluate."""
    text = str(value)
    if NUMBER.match(text):
        return text
    text = "".join(c for c in text if c in "\t\r\n" or unicodedata.category(c) not in ("Cc", "Cs"))
    return DANGEROUS.sub(r"\1\2'", text)


def printable(value, longest=120):
    """One line of text that no terminal, browser or printer acts on."""
    if _empty(value):
        return ""
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    whole = str(value)
    text = " ".join(whole[: 4 * longest].split())
    text = "".join("\ufffd" if _hidden(c) else c for c in text)
    if len(text) > longest or len(whole) > 4 * longest:
        return f"{text[:longest]}… ({len(whole):,} characters)"
    return text


def _hidden(character):
    return unicodedata.category(character) in ("Cc", "Cs", "Co") or character in TURNING


def _empty(value):
    if value is None:
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return value is not None and str(value) == "<NA>"
