"""The command ``skinfluence audit``."""

import argparse
import json
import sys
import warnings
from pathlib import Path

from .. import __version__
from .engine import ESTIMATORS, audit_table
from .result import plain
from .tables import UsageProblem, printable, read_table, write_flagged, write_text

SHOWN = 10


def main(arguments=None):
    """Run the command line.

    Returns
    -------
    int
        0 when done, 2 on bad usage or an unreadable table.
    """
    options = _parser().parse_args(arguments)
    try:
        return run(options)
    except UsageProblem as problem:
        print(f"skinfluence: {problem}", file=sys.stderr)
        return 2
    except MemoryError:
        print("skinfluence: not enough memory for this table; audit fewer rows", file=sys.stderr)
        return 2


def _parser():
    parser = argparse.ArgumentParser(
        prog="skinfluence", description="Which training rows did this? Find wrong labels in tables."
    )
    parser.add_argument("--version", action="version", version=f"skinfluence {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    audit = commands.add_parser(
        "audit",
        help="find rows of a table whose label is probably wrong",
        description="Find rows of a table whose label, or number to predict, is probably wrong. "
        "Exit code 0 when done, 2 on bad usage or an unreadable table.",
    )
    add = audit.add_argument
    add("table", metavar="TABLE", help="a .csv, .tsv or .parquet file")
    add("--target", required=True, metavar="COLUMN", help="the column whose values are doubted")
    add("--id", metavar="COLUMN", help="column that names the rows; not learned from")
    add("--task", choices=("auto", "classification", "regression"), default="auto")
    add("--estimator", choices=ESTIMATORS, default="auto", help="who judges; auto is a committee")
    add("--exclude", nargs="+", action="extend", default=[], metavar="COLUMN", help="leave out")
    add("--contamination", type=_share, default="auto", metavar="SHARE", help="share to flag")
    add("--truth", metavar="COLUMN", help="true values where known: adds a detection curve")
    add("--top", type=_count, default=50, metavar="N", help="suspects to explain (default 50)")
    add("--report", metavar="FILE.html", help="write an HTML report")
    add("--flagged", metavar="FILE.csv", help="write the flagged rows")
    add("--json", action="store_true", help="print everything found as JSON")
    add("--seed", type=int, default=0, help="seed of the models (default 0)")
    return parser


def _share(text):
    if text == "auto":
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 0.5:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 'auto' nor a share in (0, 0.5]")
    return value


def _count(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def run(options):
    """The audit with parsed options; raises UsageProblem."""
    try:
        import pandas  # noqa: F401
        from rich.console import Console
    except ImportError as error:
        raise UsageProblem(
            f"an audit needs {error.name}: pip install 'skinfluence[cli]'"
        ) from error
    _check_folders(options)
    table = read_table(options.table)
    with warnings.catch_warnings():
        # models warn about what the audit says in its own words
        warnings.simplefilter("ignore")
        audit = _with_progress(Console(stderr=True), table, options)
    if options.report:
        from .report import render

        write_text(render(audit), options.report)
    if options.flagged:
        write_flagged(_flagged_rows(table, audit, options), options.flagged)
    if options.json:
        print(json.dumps(plain(audit.as_dict()), ensure_ascii=True, indent=1))
    else:
        _print(Console(), audit, options)
    return 0


def _check_folders(options):
    """Refuse places that cannot be written to before any work."""
    for path in (options.report, options.flagged):
        if path is not None and not Path(path).resolve().parent.is_dir():
            raise UsageProblem(f"{printable(path)} cannot be written: its folder does not exist")
        if path is not None and Path(path).resolve() == Path(options.table).resolve():
            raise UsageProblem(f"{printable(path)} is the table itself; name another file")


def _with_progress(console, table, options):
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("starting", total=None)
        return audit_table(
            table,
            options.target,
            id=options.id,
            task=options.task,
            estimator=options.estimator,
            exclude=options.exclude,
            contamination=options.contamination,
            truth=options.truth,
            n_top=options.top,
            random_state=options.seed,
            source=Path(options.table).name,
            on_stage=lambda text: progress.update(bar, description=text),
        )


def _flagged_rows(table, audit, options):
    """The flagged rows of the table as read, with the verdict in columns before them."""
    rows = audit.flagged_rows
    present = table[table[options.target].notna()]
    flagged = present.iloc[rows].copy()
    verdict = {
        "audit_row": rows + 1,
        "audit_quality": audit.qualities[rows].round(6),
        "audit_suggested": audit.flagged_suggestions,
    }
    for position, (name, values) in enumerate(verdict.items()):
        while name in flagged.columns:
            name = f"{name}_"
        flagged.insert(position, name, values)
    return flagged


def _print(console, audit, options):
    """The summary for people; cell values are shown as plain text."""
    from rich.table import Table
    from rich.text import Text

    def say(text, style=""):
        console.print(Text(text, style=style))

    classify = audit.task == "classification"
    what = "labels" if classify else "targets"
    say(f"{printable(audit.source)}: {audit.n_rows:,} rows, target {printable(audit.target)}")
    say(
        f"{audit.n_flagged:,} {what} flagged, {audit.n_flagged / audit.n_rows:.1%} of the rows"
        + (f"; an estimated {audit.contamination:.1%} are wrong" if classify else ""),
        "bold red" if audit.n_flagged else "bold",
    )
    if audit.scores:
        say(
            f"{audit.scores['measure']} of a linear model: {audit.scores['fitted']:.3f} fitted, "
            f"{audit.scores['left_out']:.3f} with each row left out"
        )
    for finding in audit.findings:
        say(f"warning: {printable(finding.text, 300)}", "yellow")
    table = Table(title=f"The {min(SHOWN, len(audit.suspects))} most suspect rows")
    second = "likelier" if classify else "predicted"
    for name in (
        "row",
        "given",
        second,
        "probability" if classify else "quality",
        "spoken against by",
    ):
        table.add_column(name)
    for suspect in audit.suspects[:SHOWN]:
        against = ", ".join(printable(other.name, 24) for other in suspect.contradicts[:3])
        value = suspect.probability if classify else suspect.quality
        cells = (
            printable(suspect.name, 30),
            printable(suspect.label, 30),
            printable(suspect.suggested, 30),
            f"{value:.3f}",
            against,
        )
        table.add_row(*map(Text, cells))
    console.print(table)
    driving = ", ".join(printable(name, 24) for name, _, _ in audit.driving[:5])
    say(f"Rows that most drive the model: {driving}")
    for path, what in ((options.report, "report"), (options.flagged, "flagged rows")):
        if path:
            say(f"{what} written to {printable(path, 200)}")


if __name__ == "__main__":
    sys.exit(main())
