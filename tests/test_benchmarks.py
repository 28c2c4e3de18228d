"""The page of benchmarks, its targets, and figures quoted from it elsewhere."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
sys.path.insert(0, str(FOLDER))
import collect  # noqa: E402
import wanted  # noqa: E402
from wanted.labels import score  # noqa: E402
from wanted.target import Target  # noqa: E402

sys.path.remove(str(FOLDER))

HELPERS = {"collect.py", "nets_problem.py", "nets_run.py"}  # run by the others
TARGETS = [target for section in wanted.SECTIONS.values() for target in section()]
OUTPUTS = {name: "\n".join(record["output"]) for name, record in collect.kept().items()}


def test_page_is_made_of_the_kept_results():
    assert (FOLDER / "README.md").read_text() == collect.page()


@pytest.mark.parametrize("name", list(OUTPUTS))
def test_targets_are_found_in_the_kept_results(name):
    for target in TARGETS:
        if target.benchmark == name:
            assert target.line(OUTPUTS[name])[0]


def test_every_script_is_collected():
    scripts = {path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text()}
    assert scripts - HELPERS == {arguments[0] for _, arguments, *_ in collect.BENCHMARKS.values()}
    assert {target.benchmark for target in TARGETS} <= set(collect.BENCHMARKS)


def test_environments_are_those_that_the_script_installs():
    script = (FOLDER / "install_rivals.sh").read_text()
    installed = set(re.search(r"names=\$\{\*:-([\w ]+)\}", script).group(1).split())
    used = {environment for *_, environment, _ in collect.BENCHMARKS.values()} - {None}
    nets = (FOLDER / "nets.py").read_text()
    block = re.search(r"^RIVALS = \{\n(.*?)^\}", nets, re.M | re.S).group(1)
    assert used | set(re.findall(r': "(\w+)"', block)) == installed


@pytest.mark.parametrize(
    ("wanted", "rival", "take", "expected"),
    [
        ("≤ 2.5", "", max, ("3", "≤ 2.5", False)),
        ("≥ 1 000", "", max, ("3", "≥ 1 000", False)),
        ("< 3", "", min, ("2", "< 3", True)),
        ("> the rival's", r"theirs (\d+)", min, ("2", "> 1, the rival's", True)),
        ("= the rival's", r"theirs (\d+)", min, ("2", "= 1, the rival's", False)),
        ("", "", max, ("3", "", None)),
    ],
)
def test_targets_are_met_or_missed(wanted, rival, take, expected):
    target = Target("", "", r"^ours (\d+)", wanted, take, rival)
    assert target.line("ours 2\nours 3\ntheirs 1") == expected


def test_figure_that_is_not_printed():
    with pytest.raises(LookupError, match="all_pairs printed nothing"):
        Target("", "all_pairs", r"(\d)", "≤ 1").line("nothing")


# -- figures quoted in the pages -------------------------------------------------------------------
def margins(*columns, below="", lines=r"^.*$"):
    """From a printed table: numbers of the given columns, a list a line."""

    def read(output):
        part = output[re.search(below, output, re.M).end() :] if below else output
        found = [re.findall(r"[-+]?\d+\.\d+", line) for line in re.findall(lines, part, re.M)]
        return [[row[column] for column in columns] for row in found]

    return read


def correlations(output):
    """Of two-stage scores with retraining, both couplings: a row a score."""
    scores = ("both stages, direct", "both stages, ekfac", "embedding only", "gradient product")
    rows = [re.findall(rf"^  {name} +(-?[\d.]+) ±", output, re.M) for name in scores]
    return [row[:2] for row in rows]


def through_stages(output):
    """Average precisions of the pretrained net's loss, and of all scores of both stages."""
    part = output[output.index("flipped labels") :]
    both = sorted(re.findall(r"^  both stages, .* (\d\.\d+) ±", part, re.M))
    loss = re.search(r"net: loss +(\d\.\d+)", part).group(1)
    return [f"{float(value):.2f}" for value in (loss, both[0], both[-1])]


def gains(output):
    """Smallest and largest gain of cleaning at a fifth of wrong labels, in points."""
    parts = re.findall(r"^test accuracy, \w+, 20% .*\n.*\n.*\n((?:\w.*\d\n)+)higher", output, re.M)
    points = [float(line.split()[3]) for part in parts for line in part.splitlines()]
    return [f"{value:.1f}" for value in (min(points), max(points))]


TABLES = [
    (
        "doc/guide/groups.rst",
        "benchmarks/groups.py",
        "groups",
        margins(0, 3, 1, 2, lines=r"^ *(?:random|coherent|same sign) .*$"),
    ),
    (
        "doc/guide/cross_validation.rst",
        "benchmarks/cross_validation.py accuracy",
        "cross_validation",
        margins(0, 1, 2, 4, 6, below=r"^n=400 .*\n", lines=r"^ +0\.\d\d  .*$"),
    ),
    (
        "doc/guide/nets.rst",
        "benchmarks/net_damping.py",
        "net_damping",
        margins(-5, -4, -2, -1, lines=r"^[a-zA-Z].*\d\.\d.*$"),
    ),
    ("doc/guide/nets.rst", "benchmarks/multi_stage.py", "multi_stage", correlations),
]


def quoted(page, marker):
    """Cells of the first table below a marker, without the heading; and the text of each row."""
    text = (ROOT / page).read_text()
    text = text[text.index(marker) :]
    table = re.search(r"\.\. list-table::\n(?:   .*\n|\n)+", text).group()
    rows = [re.findall(r"^     - (.*)$", row, re.M) for row in table.split("\n   * - ")[2:]]
    names = [row.splitlines()[0] for row in table.split("\n   * - ")[2:]]
    return names, rows


def agree(cell, printed):
    """Whether a quoted figure is a printed one, rounded."""
    cell, printed = cell.strip(" %"), printed.lstrip("+")
    half = sum(0.5 * 10.0 ** -len(text.partition(".")[2]) for text in (cell, printed))
    return abs(float(cell) - float(printed)) <= half + 1e-12


@pytest.mark.parametrize(
    ("page", "marker", "name", "read"),
    [case for case in TABLES if case[2] in OUTPUTS],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tables_of_the_guide(page, marker, name, read):
    names, rows = quoted(page, marker)
    printed = read(OUTPUTS[name])
    if name == "cross_validation":
        rows = [[first, *row] for first, row in zip(names, rows, strict=True)]
    if name == "net_damping":
        printed = printed[: len(rows)]
    assert len(rows) == len(printed)
    for row, figures in zip(rows, printed, strict=True):
        assert [agree(*pair) for pair in zip(row, figures, strict=True)] == [True] * len(row), row


SCORES = {
    "`MislabelDetector()`": "skinfluence",
    "cleanlab 2.9 fed with logistic regression, forest and boosting, averaged": "cleanlab, average",
    "cleanlab fed with a forest": "cleanlab, forest",
    "training loss of a logistic regression": "training loss",
    "cleanlab, `CleanLearning()`": "cleanlab, CleanLearning",
    "influence of a row on itself": "self-influence",
}


@pytest.mark.parametrize("judge", list(SCORES))
def test_table_of_the_readme(judge):
    headings = ("AP, uniform", "F1, uniform", "AP, class-dependent")
    line = f"| {judge} | "
    for heading in headings:
        pattern = score(SCORES[judge], f"{heading} noise, 10%")
        found = re.search(pattern, OUTPUTS["mislabel"], re.M)
        line += f"{found.group(1)} | " if found else "| "
    assert line.strip() in (ROOT / "README.md").read_text().splitlines()


def printed(*patterns):
    """What patterns find."""
    return lambda output: [re.search(pattern, output, re.M).group(1) for pattern in patterns]


SENTENCES = [
    (
        "README.md",
        "({} against {})",
        "mislabel",
        printed(
            *(
                score(who, "AP, near boundary noise, 10%")
                for who in ("skinfluence", "cleanlab, average")
            )
        ),
    ),
    ("README.md", "by {} to {} points", "cleaned", gains),
    (
        "doc/guide/nets.rst",
        "average precision {} against {} to {} in the same benchmark",
        "multi_stage",
        through_stages,
    ),
    (
        "doc/guide/nets.rst",
        "from {} to {} with EKFAC and from {} to {} without curvature",
        "ensembles",
        printed(
            *(
                rf"^{solver} +AP +{column}([\d.]+)"
                for solver in ("ekfac", "identity")
                for column in (r"[\d.]+ +", r"[\d.]+ +[\d.]+ +")
            )
        ),
    ),
]


@pytest.mark.parametrize(
    ("page", "sentence", "name", "read"),
    [case for case in SENTENCES if case[2] in OUTPUTS],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sentences(page, sentence, name, read):
    text = " ".join((ROOT / page).read_text().split())
    assert sentence.format(*read(OUTPUTS[name])) in text
