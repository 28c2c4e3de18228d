"""Whether rows may go: a class, or everything, must not vanish with them."""

import numpy as np


def check_classes_left(rows, codes, present, classes):
    """Refuse the joint removal of ``rows`` if it leaves a class, or the fit, without rows.

    Parameters
    ----------
    rows : array-like of int
    codes : ndarray of shape (n,) or None
        Class index of each row; None for a regression.
    present : ndarray of bool of shape (n,)
        Rows of positive weight.
    classes : ndarray or None
    """
    gone = np.zeros(len(present), dtype=bool)
    gone[rows] = True
    if not (present & ~gone).any():
        raise ValueError("no row of positive weight is left without these: nothing to fit")
    if codes is None or not (present & gone).any():
        return
    left = np.bincount(codes[present & ~gone], minlength=len(classes))
    lost = (left == 0) & (np.bincount(codes[present], minlength=len(classes)) > 0)
    if lost.any():
        name = classes[lost].tolist()[0]
        raise ValueError(
            f"without rows {np.asarray(rows)[:5].tolist()} no row of class {name!r} is left: a "
            "refit would not know the class. Drop the class"
        )
