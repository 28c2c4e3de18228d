"""What is wanted of the search for wrong labels."""

from .target import NUMBER, Target, least, most


def ahead(found):
    """How many tables of a line of margins are positive; the last figure is their mean."""
    return str(sum(float(margin) > 0 for margin in found[0].split()[:-1]))


def behind(found):
    """The lowest margin of a line, its mean left out."""
    return least(found[0].split()[:-1])


def mean(found):
    """The last figure of a line of margins."""
    return found[0].split()[-1]


def table(name, heading):
    """The pattern of a line of margins: below a heading, the line of a name."""
    return rf"^{heading}.*\n(?:.+\n)+?{name}\S* +((?:[-\d.]+ *)+)$"


def score(name, heading):
    """The pattern of the mean of a score: last in its line below a heading."""
    return rf"^{heading}.*\n(?:.+\n)+?{name} .* ([\d.]+)$"


def best(heading):
    """The pattern of the mean of cleanlab's best configuration; lines are sorted by it."""
    return score("cleanlab, .+?", heading)


def labels():
    """Wrong labels."""
    name = "mislabel"
    ours = "skinfluence"
    for kind, text in (
        ("uniform", "uniform"),
        ("class-dependent", "by class"),
        ("near boundary", "near the boundary"),
    ):
        for measure in ("AP", "F1"):
            for rate in (5, 10, 20):
                heading = f"{measure}, {kind} noise, {rate}%"
                yield Target(
                    f"wrong labels {text}, {rate} %: {measure}",
                    name,
                    score(ours, heading),
                    "> cleanlab's best",
                    rival=best(heading),
                )
                if (measure, kind, rate) == ("AP", "uniform", 10):
                    yield Target("the same", name, score(ours, heading), "≥ .78")
            line = table("best on the mean: cleanlab, ", f"{measure} ahead of cleanlab, {kind}")
            if measure == "AP":
                yield Target(
                    f"{text}, all rates: mean AP ahead of cleanlab", name, line, "> 0", mean
                )
                yield Target("the same, lowest of 6 tables", name, line, "≥ -0.01", behind)
                own = table("best on each table", f"AP ahead of cleanlab, {kind}")
                yield Target(
                    "the same, against each table's own best", name, own, "≥ -0.01", behind
                )
            else:
                yield Target(f"{text}, all rates: tables ahead in F1", name, line, "≥ 5", ahead)
    yield Target(
        "time over cleanlab's run of the same members: largest",
        "mislabel_time",
        rf"^\w+: .* = {NUMBER}$",
        "≤ 1",
        most,
    )
    for model in ("boosting", "logistic"):
        case = rf"^test accuracy, {model}, {{}}% noise(?:.*\n)+?higher on "
        yield Target(
            f"cleaned {model}, 20 % wrong: tables with higher accuracy",
            "cleaned",
            case.format(20) + r"(\d+) of",
            "≥ 5",
        )
        yield Target(
            f"cleaned {model}, none wrong: lowest gain, points",
            "cleaned",
            case.format(0) + rf".* lowest gain {NUMBER}",
            "≥ -0.2",
        )
    yield Target(
        "audit of 100 000 rows: memory, MB", "audit_scale", r"^ *100,000 .* (\d+) MB", "≤ 2 000"
    )
    yield Target(
        "audit: time grows as rows to the power",
        "audit_scale",
        rf"^seconds grow .* {NUMBER}",
        "≤ 1.05",
    )
