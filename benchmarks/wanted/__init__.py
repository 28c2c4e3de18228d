"""The targets: which printed figure is set against what. ``collect.py`` shows them as tables."""

from . import fits, labels, models, nets, scale

SECTIONS = {
    "Linear models": models.linear,
    "Kernel machines": models.kernels,
    "Cross-validation and search": fits.folds,
    "Pipelines and stages": fits.steps,
    "Nets": nets.nets,
    "Wrong labels": labels.labels,
    "Targets, groups, selection": scale.targets,
    "Scale": scale.scale,
}


def tables(outputs):
    """Lines of the page: one table a section, of the benchmarks whose output there is."""
    met = missed = 0
    lines = []
    for title, section in SECTIONS.items():
        rows = []
        for target in section():
            if target.benchmark not in outputs:
                continue
            found, wanted, good = target.line(outputs[target.benchmark])
            met, missed = met + (good is True), missed + (good is False)
            mark = "**missed**" if good is False else ""
            rows.append(f"| {target.label} | {found} | {wanted} | {mark} |")
        if rows:
            lines += [f"### {title}", "", "| | found | wanted | |", "|---|---|---|---|", *rows, ""]
    heading = f"{met + missed} targets: {met} met, {missed} missed."
    return ["## Summary", "", heading, "", *lines] if lines else []
