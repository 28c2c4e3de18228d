"""From held-out probabilities to hard verdicts: who is flagged, and how classes are confused."""

import numpy as np

# A label is flagged when another class is at least twice as likely, and clearly likelier also when
# every class is measured against its own frequency. Where few labels are like that (below 13 %),
# most of those are right but unusual, and more is asked for.
FLAGGED_BELOW = 0.5
FLAGGED_LIFT_BELOW = 0.8
BELOW_PER_ROOT_SHARE = 1.4
LEFT_OUT_BELOW = 0.2
# How much a likely other class counts against a label, besides the label's own probability.
RIVAL = 0.25


def label_quality(proba, codes):
    """Quality in [0, 1]: a label's probability, less a quarter of that of its strongest rival.

    Shifted and scaled so that certainty of another class is 0 and certainty of the label is 1.
    With two classes the order is that of the probability. With more, a single likely rival (a
    swapped pair of classes) is worse than doubt spread over many.
    """
    own = probability(proba, codes)
    others = proba.copy()
    others[np.arange(len(codes)), codes] = 0
    return (own - RIVAL * others.max(axis=1) + RIVAL) / (1 + RIVAL)


def probability(proba, codes):
    """Probability of each row's own label."""
    return proba[np.arange(len(codes)), codes]


def flag(proba, codes, contamination="auto"):
    """Mask of the rows whose label is judged wrong.

    Parameters
    ----------
    proba : ndarray of shape (n, K)
    codes : ndarray of shape (n,)
    contamination : "auto" or float
        Share of the rows to flag, those of lowest quality.
    """
    if contamination == "auto":
        own, lift = standings(proba, codes)
        doubtful = (own < FLAGGED_BELOW) & (lift < FLAGGED_LIFT_BELOW)
        return doubtful & (own < BELOW_PER_ROOT_SHARE * np.sqrt(doubtful.mean()))
    return lowest(label_quality(proba, codes), contamination)


def leave_out(proba, codes):
    """Mask of the rows to leave out of the next round: the clearest cases only."""
    own, lift = standings(proba, codes)
    return (own < LEFT_OUT_BELOW) & (lift < FLAGGED_LIFT_BELOW)


def standings(proba, codes):
    """How each row's label stands to the likeliest class, and to that of largest lift: in [0, 1].

    Lift is probability over the class's share of the rows. Where features say nothing, a rare
    label has a small probability and yet is no worse than others: its lift shows it.
    """
    shares = np.bincount(codes, minlength=proba.shape[1]) / len(codes)
    lift = proba / np.maximum(shares, 1 / len(codes))
    own = np.arange(len(codes)), codes
    return proba[own] / proba.max(axis=1), lift[own] / lift.max(axis=1)


def lowest(quality, share):
    """Mask of the ``share`` of rows with the lowest quality."""
    mask = np.zeros(len(quality), dtype=bool)
    mask[np.argsort(quality, kind="stable")[: round(share * len(quality))]] = True
    return mask


def spare_classes(mask, quality, codes, share=0.5):
    """``mask`` less the best rows of a class of which it would take more than ``share``."""
    mask = mask.copy()
    for k in np.unique(codes[mask]):
        rows = np.flatnonzero(codes == k)
        most = min(int(share * len(rows)), len(rows) - 2)
        taken = rows[mask[rows]]
        if len(taken) > most:
            order = np.argsort(quality[taken], kind="stable")
            mask[taken[order[max(most, 0) :]]] = False
    return mask


def noise_matrix(codes, suggested, n_classes):
    """Row i, column j: share of the rows labelled i whose likely class is j. Rows sum to one."""
    counts = np.zeros((n_classes, n_classes))
    np.add.at(counts, (codes, suggested), 1.0)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
