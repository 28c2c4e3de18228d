"""The audit as one self-contained HTML page."""

import numpy as np

from .charts import histogram, line_chart
from .tables import UsageProblem, printable


def render(audit):
    """HTML text of an :class:`~skinfluence.audit.result.Audit`.

    Every cell value passes through :func:`~skinfluence.audit.tables.printable` and jinja2's
    escaping; the page holds no script and forbids any by its content security policy.
    """
    try:
        from jinja2 import Environment, PackageLoader
        from markupsafe import Markup
    except ImportError as error:
        raise UsageProblem("a report needs jinja2: pip install 'skinfluence[cli]'") from error
    environment = Environment(
        loader=PackageLoader("skinfluence.audit", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = printable
    environment.filters["share"] = share
    environment.filters["signed"] = signed
    chart = histogram(audit.qualities, _flagged(audit), "label quality")
    curve = None
    if audit.curve is not None:
        looked, found, _ = audit.curve
        curve = Markup(
            line_chart(
                looked,
                found,
                "rows looked at, most suspect first",
                "wrong labels found",
                found[-1],
            )
        )
    template = environment.get_template("report.html.j2")
    return template.render(
        audit=audit,
        quality_chart=Markup(chart),
        curve_chart=curve,
        matrix=_matrix(audit),
        classify=audit.task == "classification",
    )


def share(value):
    """A share in per cent, with a digit where it is small."""
    return f"{value:.1%}" if value < 0.1 else f"{value:.0%}"


def signed(value):
    """A number with its sign, in four digits."""
    return f"{value:+.3g}".replace("-", "−")


def _flagged(audit):
    """Which qualities belong to flagged rows: the lowest ones, or those the suspects name."""
    mask = np.zeros(len(audit.qualities), dtype=bool)
    mask[audit.flagged_rows] = True
    return mask


def _matrix(audit, most=12):
    """Lines of the noise matrix, or None when it is too large to read."""
    if audit.noise_matrix is None or len(audit.classes) > most:
        return None
    return [
        (label, row.tolist()) for label, row in zip(audit.classes, audit.noise_matrix, strict=True)
    ]
