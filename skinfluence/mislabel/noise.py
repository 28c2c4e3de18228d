"""Hard verdicts: who is flagged, and who is left out of the next round."""

import numpy as np

# Whatever the rates of wrong labels, a label is flagged when another class is three times as
# likely by the held-out probabilities alone, also relative to how frequent the classes are.
FLAGGED_BELOW = 1 / 3
FLAGGED_LIFT_BELOW = 0.8
LEFT_OUT_BELOW = 0.2
LEAST_SUSPICION = 0.1  # probability of being wrong below which no estimate of F1 flags a label


def flag(quality, proba, codes):
    """Mask of the rows whose label is judged wrong.

    Parameters
    ----------
    quality : ndarray of shape (n,)
        Probability that a label is right, at the rates of wrong labels that were found.
    proba : ndarray of shape (n, K)
    codes : ndarray of shape (n,)
    """
    own, lift = standings(proba, codes)
    return likely_wrong(quality) | ((own < FLAGGED_BELOW) & (lift < FLAGGED_LIFT_BELOW))


def likely_wrong(quality):
    """The rows of lowest quality, as many as make the expected F1 of the mask largest.

    F1 is estimated by twice the errors expected among the rows taken, over their number plus all
    errors expected.
    """
    wrong = np.sort(1 - quality)[::-1]
    score = np.cumsum(wrong) / (np.arange(1, len(wrong) + 1) + wrong.sum())
    return 1 - quality >= max(wrong[score.argmax()], LEAST_SUSPICION)


def leave_out(proba, codes):
    """Mask of the rows to leave out of the next round: the clearest cases only."""
    own, lift = standings(proba, codes)
    return (own < LEFT_OUT_BELOW) & (lift < FLAGGED_LIFT_BELOW)


def learnable(codes, sample_weight=None):
    """Mask of the rows of positive weight, of classes of which another row is left to learn."""
    present = np.ones(len(codes), bool) if sample_weight is None else sample_weight > 0
    return present & (np.bincount(codes[present], minlength=codes.max() + 1)[codes] > 1)


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
