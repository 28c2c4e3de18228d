"""What is wanted of targets and groups, and at scale."""

from .target import NUMBER, Target, least, most


def targets():
    """Targets, groups and selection."""
    name = "targets"
    for model in ("logistic", "balanced", "discriminant"):
        case = rf"^  {model} .* "
        correlation = case + rf"correlation +{NUMBER}"
        slope = case + rf"slope +{NUMBER} "
        yield Target(
            f"all targets, {model}: lowest correlation with refits",
            name,
            correlation,
            "≥ .99",
            least,
        )
        yield Target(f"all targets, {model}: lowest slope", name, slope, "≥ .98", least)
        yield Target(f"all targets, {model}: largest slope", name, slope, "≤ 1.02", most)
    for data in ("mortgages", "arrests"):
        for functional in ("group gap", "AUROC", "worst group"):
            case = rf"^{data}: (?:.*\n)+?  {functional} +{{}} .*correlation +"
            yield Target(
                f"{functional}, {data}: correlation with refits",
                name,
                case.format("newton") + NUMBER,
                "≥ pyinfluence's",
                rival=case.format("pyinfluence") + NUMBER,
            )
            method = "newton" if functional == "AUROC" else "influence"
            time = rf"[\d.]+ +{NUMBER} ms"
            yield Target(
                f"the same, ms, {method}",
                name,
                case.format(method) + time,
                "≤ pyinfluence's",
                rival=case.format("pyinfluence") + time,
            )
    yield Target(
        "worst 5 % removed: tables of 5 with a lower gap",
        "fairness",
        r"^lower gap.*: (\d) of",
        "≥ 4",
    )
    yield Target(
        "the same, higher accuracy under attack",
        "fairness",
        r"^higher accuracy under attack.*: (\d) of",
        "≥ 4",
    )
    name = "influential_sets"
    yield Target("signs flipped by few rows, of 10", name, r"^flipped by .*: (\d+) of", "≥ 10")
    yield Target(
        "the same, with no more rows than AMIP", name, r"^with no more .*: (\d+) of", "≥ 10"
    )
    yield Target(
        "unlearning: certificates violated", name, r"^certificates violated: (\d+) of", "≤ 0"
    )


def scale():
    """Scale."""
    yield Target(
        "import, seconds added to scikit-learn's",
        "import_time",
        rf"^added by skinfluence: {NUMBER} s",
        "< 0.1",
    )
    name = "ten_million"
    yield Target(
        "leave-one-out of ten million rows: speed of the bare blocks",
        name,
        r"speed of the bare blocks reached: (\d+%)",
        "≥ 70%",
    )
    yield Target(
        "top 10 of ten million rows: speed of the bare product",
        name,
        r"speed of the bare product reached: (\d+%)",
        "≥ 70%",
    )
    yield Target(
        "leave-one-out and top 10 of ten million rows: speed of the bare work",
        name,
        r"speed of the bare work reached: (\d+%)",
        "≥ 70%",
    )
    yield Target(
        "ten million rows: peak memory, MB", name, rf"peak resident memory.*: {NUMBER}", "≤ 24 000"
    )
    yield Target(
        "ten million rows: leave-one-out losses, seconds",
        name,
        rf"^leave-one-out losses of all rows +{NUMBER} s",
    )
    yield Target(
        "two dask workers over one: speed", "dask_workers", rf"two workers .* {NUMBER} x", "≥ 1.6"
    )
    for method in ("influence", "influence, top 10", "newton"):
        yield Target(
            f"tensors, {method}, float32: time over the bare product",
            "device",
            rf"^{method} +[\d.]+ ms .* {NUMBER} x bare",
            "≤ 1.25" if method == "influence" else "",
        )
    for solver in ("ekfac", "cg"):
        yield Target(
            f"nets, {solver}: memory grows as rows to the power",
            "net_cost_curves",
            rf"^rows +net, {solver} +{NUMBER[1:-1]} +{NUMBER}",
            "≤ 0.2",
        )
    for axis in ("rows", "columns", "queries"):
        yield Target(
            f"top 10, newton: time grows as {axis} to the power",
            "cost_curves",
            rf"^{axis} +top 10, newton +{NUMBER}",
        )
