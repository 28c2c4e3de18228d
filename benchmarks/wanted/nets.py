"""What is wanted of neural nets."""

from .target import NUMBER, Target, most


def nets():
    """Neural nets."""
    rivals = ("curvlinops CG-20", "dattri CG-10, Hessian")
    for net in ("digits_tanh", "digits_relu", "diabetes_relu"):
        case = rf"^{net}: (?:.+\n)+?"
        lds = case + r"{} +[\d.]+ +\d+ +([-\d.]+)"
        ap = case + r"{} +[\d.]+ +\d+ +[-\d.]+ +([\d.]+)$"
        goal = "≥ .73" if net == "digits_tanh" else ""
        yield Target(f"{net}: LDS of the default", "nets", lds.format("default"), goal)
        dense = lds.format("dense reference")
        yield Target(f"{net}: LDS of the dense reference", "nets", dense)
        if net == "diabetes_relu":
            leverage = lds.format("default, leverage")
            yield Target(f"{net}: LDS with leverage damping", "nets", leverage)
        for other in ("gradient dot product", *rivals):
            yield Target(
                f"{net}: LDS of the default against {other}",
                "nets",
                lds.format("default"),
                "> the other's",
                rival=lds.format(other),
            )
        for other in rivals:
            yield Target(
                f"{net}: time of the default over {other}",
                "nets",
                case + rf"time of default / {other}: {NUMBER}",
                "≤ 1",
            )
        yield Target(
            f"{net}: time of the default over dense",
            "nets",
            case + rf"time of default / dense reference: {NUMBER}",
            "≤ 0.2",
        )
        yield Target(
            f"{net}: memory of the default, MB",
            "nets",
            case + r"default +[\d.]+ +(\d+)",
            "≤ 250",
        )
        goal = "≥ .58" if net == "digits_tanh" else ""
        yield Target(f"{net}: LDS of EKFAC", "nets", lds.format("EKFAC"), goal)
        for rival in ("kronfluence", "pyDVL"):
            if net != "diabetes_relu":
                yield Target(
                    f"{net}: flipped labels, AP of EKFAC against {rival}",
                    "nets",
                    ap.format("EKFAC"),
                    "≥ the rival's",
                    rival=ap.format(f"{rival} EKFAC"),
                )
            if (net, rival) != ("diabetes_relu", "pyDVL"):  # it gives no scores for a regression
                yield Target(
                    f"{net}: LDS of EKFAC against {rival}",
                    "nets",
                    lds.format("EKFAC"),
                    "≥ the rival's",
                    rival=lds.format(f"{rival} EKFAC"),
                )
            yield Target(
                f"{net}: time of EKFAC over {rival}'s",
                "nets",
                case + rf"time of EKFAC / {rival} EKFAC: {NUMBER}",
                "≤ 0.2",
            )
    yield Target(
        "products with a net's curvature against curvlinops: largest difference",
        "net_products",
        rf"^\w+ +(?:mean|sum) +[-\w]+ +{NUMBER}",
        "≤ 1e-10",
        most,
    )
    for solver in ("identity", "ekfac"):
        for measure in ("LDS", "AP"):
            case = rf"^{solver} +{measure} "
            yield Target(
                f"five nets, {solver}: {measure}",
                "ensembles",
                case + r".* ([\d.]+)$",
                "> of single nets",
                rival=case + r" *[\d.]+ +([\d.]+) ",
            )
    for way in ("5 seeds", "noise, . copies", "dropout, . copies", "5 seeds x noise"):
        for measure in ("LDS", "AP own"):
            yield Target(
                f"Hessian-free, {way.replace('. ', '')}: {measure} over one net's",
                "hessian_free",
                rf"^{way} / single: .*?{measure} {NUMBER}",
                "> 1",
            )
