"""What is wanted of linear models and kernel machines."""

import re

from .target import NUMBER, Target, least, most


def linear():
    """Logistic regression and least squares."""
    name = "all_pairs"
    yield Target(
        "all pairs, float64: time over the bare product",
        name,
        rf"influence float64 / bare float64: {NUMBER}",
        "≤ 1.25",
    )
    yield Target(
        "all pairs: time over pyinfluence's",
        name,
        rf"influence float64 / pyinfluence: {NUMBER}",
        "≤ 1",
    )
    yield Target(
        "all pairs: newton over first order",
        name,
        rf"newton float64 / influence float64: {NUMBER}",
        "≤ 3",
    )
    yield Target(
        "all pairs: float64 over float32",
        name,
        rf"influence float64 / influence float32: {NUMBER}",
        "≥ 1.6",
    )
    name = "streams"
    yield Target(
        "leave-one-out of 200 000 rows over one fit",
        name,
        rf"newton self-influence / .*: {NUMBER}",
        "≤ 0.5",
    )
    yield Target(
        "top 10 of a million rows over the bare blocks",
        name,
        rf"top_influences / bare blocks: {NUMBER}",
        "≤ 1.6",
    )
    yield Target("the same, memory added, MB", name, r"peak memory added (\d+) MB", "≤ 1 000")
    yield from exact()
    yield from refits()
    yield from statsmodels()


def exact():
    """Exact leave-one-out."""
    name = "exact_leave_one_out"
    small, large = r"^n=5000 .*\n  tol=1e-08: ", r"^n=100000 (?:.*\n)+?  tol=1e-05: "
    yield Target(
        "exact leave-one-out, n = 5 000: speed over refits",
        name,
        small + r".* (\d+) x refits",
        "≥ 40",
    )
    yield Target(
        "exact leave-one-out, n = 100 000, tol 1e-5: speed over refits",
        name,
        large + r".* (\d+) x refits",
        "≥ 1 000",
    )
    yield Target("the same, in times of one fit", name, large + rf".* = {NUMBER} fits", "≤ 12")
    bound = large + r".*\n.*\n    certified relative bound: "
    yield Target(
        "the same, largest certified error", name, bound + rf".*largest {NUMBER};", "≤ 1e-5"
    )
    yield Target(
        "the same, median certified error", name, bound + rf"median {NUMBER}, largest", "≤ 5e-7"
    )
    yield Target(
        "the same, largest error of 20 rows", name, bound + rf".*largest {NUMBER}$", "≤ 1e-7"
    )
    yield Target(
        "exact leave-one-out, digits: speed over refits",
        name,
        r"^digits .*\n  (\d+) x refits",
        "≥ 20",
    )
    yield Target(
        "error bound over error: smallest", name, rf"error_bound.* smallest {NUMBER}", "≥ 1", least
    )
    yield Target(
        "error bound over error: largest median",
        name,
        rf"error_bound.* median {NUMBER}",
        "",
        most,
    )


def refits():
    """Methods against refits."""
    name = "refits"
    case = r"^binary, .*newton: losses off by "
    yield Target("newton, n = 300, d = 10: error of test losses", name, case + NUMBER, "≤ 0.02")
    slope = case + rf".* slope {NUMBER},"
    yield Target("the same, slope", name, slope, "≤ 1.01")
    yield Target("the same", name, slope, "≥ 0.99")
    yield Target(
        "newton, digits: error of test losses",
        name,
        rf"^digits, .*newton: losses off by {NUMBER}",
        "≤ 0.06",
    )
    yield Target(
        "exact, binary: error of parameters",
        name,
        rf"^binary, .*exact: .*parameters off by {NUMBER}",
        "≤ 1e-8",
    )
    yield Target(
        "LinearSVC newton: largest error",
        name,
        rf"^LinearSVC.*newton: largest error {NUMBER}",
        "≤ 0.05",
    )
    yield Target(
        "LinearSVC exact: largest error",
        name,
        rf"^LinearSVC.*exact: largest error {NUMBER}",
        "≤ 1e-7",
    )
    yield Target(
        "Lasso newton where the active set stays: largest error",
        name,
        rf"^Lasso.*newton: .* {NUMBER} on the",
        "≤ 1e-7",
    )
    yield Target(
        "Lasso exact on all rows: largest error",
        name,
        rf"^Lasso.*exact: largest error {NUMBER}",
        "≤ 1e-7",
    )


def statsmodels():
    """Diagnostics of unpenalised models."""
    name = "statsmodels_influence"
    for model in ("least squares", "logistic", "Poisson"):
        yield Target(
            f"statsmodels, {model}: time over its closed forms, n = 100 000",
            name,
            rf"^{model}, n=100000: .*ratio {NUMBER}",
            "≤ 1",
        )
        yield Target(
            f"statsmodels, {model}: speed over its refits",
            name,
            rf"^{model}, .*every row left out: .* (\d+) x",
            "≥ 1",
        )
    differences = rf"(?:difference:|,) [^:\n]*? ({NUMBER[1:-1]}e-\d+)"
    yield Target(
        "statsmodels, all diagnostics: largest difference", name, differences, "≤ 1e-8", most
    )
    yield Target(
        "statsmodels, standard errors: largest difference",
        name,
        rf"standard errors .*: largest difference {NUMBER}",
        "≤ 1e-8",
        most,
    )


def kernels():
    """Support vector machines."""
    name = "svc_leave_one_out"
    for C, limit in (("0.1", "1e-5"), ("1", "1e-5"), ("10", "1e-5"), ("1000", "1e-3")):
        case = rf"^C={re.escape(C)}: .*"
        yield Target(
            f"SVC, C = {C}: speed over libsvm's refits", name, case + rf", {NUMBER} x faster", "≥ 5"
        )
        yield Target(
            f"SVC, C = {C}: largest error of decisions",
            name,
            case + rf"largest error {NUMBER}",
            f"≤ {limit}",
        )
        yield Target(
            f"SVC, C = {C}: correlation of the span rule",
            name,
            case + rf"span rule correlation {NUMBER}",
            "≥ 0.99",
        )
