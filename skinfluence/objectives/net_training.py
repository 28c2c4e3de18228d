"""What skorch's training minimised: which rows, how often, and with which weight decay.

Imported only when a net comes in.
"""

import warnings

import numpy as np

# Optimizers whose weight_decay is the derivative of ½ wd ‖θ‖² added to that of the loss.
COUPLED = {
    *("SGD", "Adam", "Adamax", "NAdam", "RAdam", "Adagrad", "Adadelta", "RMSprop", "ASGD"),
    *("LBFGS", "Rprop", "SparseAdam"),
}


def trained_rows(net, X, y):
    """Positions of the rows that skorch trained on; its validation split is the rest."""
    n = len(y)
    if not net.train_split:
        return np.arange(n)
    split = net.train_split
    drawn = getattr(split, "_is_float", lambda cv: False)(getattr(split, "cv", None))
    if drawn and split.random_state is None:
        raise ValueError(
            "train_split draws a new validation set at each call, so the rows the net was trained "
            "on are not known: give ValidSplit a random_state"
        )
    train, _ = net.get_split_datasets(X.data, y)
    again, _ = net.get_split_datasets(X.data, y)
    if not hasattr(train, "indices"):
        if len(train) == n:
            return np.arange(n)
        raise ValueError(
            "train_split returns a dataset that does not say which rows it holds; use "
            "skorch.dataset.ValidSplit, or train_split=None"
        )
    if not np.array_equal(train.indices, again.indices):
        raise ValueError("train_split gives another split at each call; fix its random_state")
    return np.asarray(train.indices)


def batch_shares(net, n):
    """Steps an epoch and the share of each trained row in them (mean 1).

    Every step averages its own batch. Without shuffling, the rows of a last, smaller batch count
    more at each epoch, and with ``drop_last`` they never count.
    """
    options = net.get_params_for("iterator_train")
    size = options.get("batch_size", net.batch_size)
    size = n if size == -1 or size is None else min(int(size), n)
    drop = bool(options.get("drop_last", False))
    steps = max(1, n // size if drop else -(-n // size))
    if steps * size == n or options.get("shuffle") or options.get("sampler") is not None:
        return steps, np.ones(n)
    shares = np.zeros(n)
    for start in range(0, steps * size, size):
        shares[start : start + size] = 1 / len(shares[start : start + size])
    return steps, shares * (n / steps if not drop else size)


def weight_decay(net, trainable):
    """``weight_decay`` of each trainable parameter, by its name in the module."""
    optimizer = net.optimizer_
    names = {id(p): name for name, p in net.module_.named_parameters()}
    decays, decoupled = {}, False
    for group in optimizer.param_groups:
        if group.get("maximize"):
            raise ValueError("the optimizer maximises the loss; influence needs a minimum")
        decay = float(group.get("weight_decay", 0.0) or 0.0)
        known = type(optimizer).__name__ in COUPLED
        if decay and (group.get("decoupled_weight_decay") or not known):
            decoupled, decay = True, 0.0
        for p in group["params"]:
            name = names.get(id(p))
            if name in trainable:
                decays[name] = decay
    if decoupled:
        warnings.warn(
            f"{type(optimizer).__name__} decays weights apart from the loss: that is the "
            "derivative of no penalty, so the objective is taken without one, and the fit is not "
            "stationary on it. Damping then comes from the solver (damping='auto').",
            UserWarning,
            stacklevel=2,
        )
    return decays
