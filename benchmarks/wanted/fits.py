"""What is wanted of cross-validation, searches and pipelines."""

from .target import NUMBER, Target, most


def folds():
    """Cross-validation and search."""
    name = "cross_validation"
    for cv in (5, 10):
        for label, options in (
            ("", "default tol"),
            (", lbfgs at 1e-10", ".*1000.*"),
            (", newton-cholesky", ".*newton-cholesky.*"),
        ):
            yield Target(
                f"{cv} folds{label}: speed over scikit-learn's",
                name,
                rf"^{cv} folds, {options}: .* = {NUMBER} x",
                "≥ 3",
            )
        yield Target(
            f"{cv} folds, at 1e-10: largest difference",
            name,
            rf"^{cv} folds, {{.*difference {NUMBER}",
            "≤ 1e-6",
            most,
        )
    for n, text, speed in (("5000", "5 000", "200"), ("100000", "100 000", "5 000")):
        case = rf"^exact leave-one-out n={n}, .* = "
        yield Target(
            f"exact leave-one-out, n = {text}: speed over scikit-learn's",
            name,
            case + r"(\d+) x",
            f"≥ {speed}",
        )
        yield Target(
            "the same, largest difference", name, case + rf".* difference {NUMBER}", "≤ 1e-7"
        )
    for ratio, limit in (("0.02", "0.5"), ("0.05", "0.5"), ("0.10", "0.5"), ("0.50", "3")):
        yield Target(
            f"newton, p/n = {ratio}: log-loss off by, %",
            name,
            rf"^ +{ratio}  .*?\([+-]([\d.]+)%\)",
            f"≤ {limit}",
        )
    for data in ("breast cancer", "wine", "iris", "digits 0/1", "diabetes"):
        for kind in ("auto", "exact"):
            case = rf"^search, {data}: .*{kind} .*? = "
            yield Target(
                f"search, {data}, {kind}: speed over scikit-learn's",
                "search",
                case + r"(\d+) x",
                "≥ 50",
            )
            yield Target(
                "the same, penalty chosen",
                "search",
                case + rf"\d+ x, chose {NUMBER}",
                "= scikit-learn's",
                rival=rf"^search, {data}: scikit-learn .*? chose {NUMBER};",
            )


def steps():
    """Pipelines and stages."""
    for kind, limit in (("influence", "≤ 3"), ("newton", "≤ 3")):
        yield Target(
            f"scaler followed over kept, {kind}",
            "stages",
            rf"^scaler \+ logistic +{kind} .*ratio {NUMBER}",
            limit,
        )
        yield Target(
            f"scaler and components followed over kept, {kind}",
            "stages",
            rf"^scaler \+ PCA \+ logistic +{kind} .*ratio {NUMBER}",
            "≤ 3",
        )
    for data in ("credit", "ames, PCA", "ames, target"):
        yield Target(
            f"{data}, steps followed: correlation with refits",
            "refits",
            rf"^{data}, steps followed: .* {NUMBER}",
            "≥ 0.995",
        )
        yield Target("the same, steps kept", "refits", rf"^{data}, steps kept: .* {NUMBER}", "")
    for coupling in ("fixed", "updated"):
        case = rf"^{coupling}: (?:.*\n)+?  "
        yield Target(
            f"two stages, {coupling}: correlation with retraining",
            "multi_stage",
            case + rf"both stages, direct +{NUMBER}",
            "> from the shared layer alone",
            rival=case + rf"embedding only +{NUMBER}",
        )
        yield Target(
            f"two stages by EKFAC, {coupling}: correlation with retraining",
            "multi_stage",
            case + rf"both stages, ekfac +{NUMBER}",
            "> from the shared layer alone",
            rival=case + rf"embedding only +{NUMBER}",
        )
        flipped = r"^flipped labels: (?:.*\n)+?  "
        for solver in ("direct", "ekfac"):
            yield Target(
                f"flipped pretraining labels, {coupling}, {solver}: average precision",
                "multi_stage",
                flipped + rf"both stages, {coupling}, {solver} +{NUMBER}",
                "> of the gradient product",
                rival=flipped + rf"gradient product, {coupling} +{NUMBER}",
            )
    yield Target(
        "the same, by the loss of the pretrained net",
        "multi_stage",
        rf"pretrained net: loss +{NUMBER}",
    )
