"""Any function of predictions as a target."""

import sys

import numpy as np

from .base import Target
from .predictions import probability_pullback

OF = ("decision", "proba", "outputs")
DERIVATIVES = ("auto", "torch", "numerical")


class Functional(Target):
    """``f(predictions)``: one number for all queries, or one a query.

    Parameters
    ----------
    f : callable
        ``f(P)``, or ``f(P, y)`` with ``needs_y``: of numpy arrays, or of torch tensors. ``y`` are
        class positions (of ``classes_``) or targets.
    of : {"decision", "proba", "outputs"}, default="decision"
        What ``P`` is: a regressor's predictions or decision values, shape (n_queries,), or
        (n_queries, n_outputs) of several; class probabilities, (n_queries, n_classes); or the
        model's raw outputs, (n_queries, n_outputs).
    scalar : bool, default=True
        Whether ``f`` gives one number. Otherwise (n_queries,), each of its own query's row only.
    needs_y : bool, default=False
    derivative : {"auto", "torch", "numerical"}, default="auto"
        How methods that linearise the target differentiate ``f``. "auto" is torch where ``f``
        takes tensors (and torch is imported), else central differences: two calls for each entry
        of ``P`` when scalar. A derivative that is zero everywhere is refused: ``f`` is then
        likely piecewise constant.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.targets import Functional
    >>> X, y = load_diabetes(return_X_y=True)
    >>> spread = Functional(lambda P: np.std(P))
    >>> InfluenceExplainer(Ridge(), target=spread).fit(X, y).transform(X[:50]).shape
    (1, 442)
    """

    def __init__(self, f, *, of="decision", scalar=True, needs_y=False, derivative="auto"):
        self.f = f
        self.of = of
        self.scalar = scalar
        self.needs_y = needs_y
        self.derivative = derivative

    def context(self, head, Z, y):
        """Targets, where ``f`` takes them; the shape of what it gives is checked."""
        if self.of not in OF:
            raise ValueError(f"of={self.of!r} is not one of {OF}")
        if self.derivative not in DERIVATIVES:
            raise ValueError(f"derivative={self.derivative!r} is not one of {DERIVATIVES}")
        y = y if self.needs_y else None
        P = self._predictions(head, Z)
        values = self._call(P, y)
        expected = () if self.scalar else (len(P),)
        if values.shape != expected:
            raise ValueError(
                f"f gives shape {values.shape} for {len(P)} queries, but scalar={self.scalar} "
                f"means {expected}"
            )
        if not np.isfinite(values).all():
            raise ValueError("f is not finite at the fitted predictions")
        if not self.scalar and len(P) > 1:
            alone = self._call(P[:1], None if y is None else y[:1])
            if not np.allclose(alone, values[:1], rtol=1e-6, atol=1e-12):
                raise ValueError(
                    "f gives another value for a query alone than among the others: a function "
                    "of all queries together is scalar=True"
                )
        return (y,)

    def value(self, head, Z, y):
        """``f`` at the fit, or at each removal's outputs in turn."""
        P = self._predictions(head, Z)
        if Z.ndim == 2:
            return self._call(P, y)
        y = None if y is None else y[:, 0]
        return np.stack([self._call(P[:, b], y) for b in range(Z.shape[1])], axis=-1)

    def gradient(self, head, Z, y):
        """Through the predictions."""
        P = self._predictions(head, Z)
        C = self._torch_gradient(P, y) if self._takes_tensors(P, y) else None
        C = self._numerical_gradient(P, y) if C is None else C
        self._check(P, y, C)
        if self.of == "outputs":
            return C
        if self.of == "proba":
            return probability_pullback(head, Z, C)
        C = C.reshape(len(C), -1)
        index = [np.full(len(Z), k) for k in range(C.shape[1])]
        return sum(C[:, [k]] * head.decision_gradient(Z, i) for k, i in enumerate(index))

    def _predictions(self, head, Z):
        if self.of == "outputs":
            return Z
        if self.of == "proba":
            return head.proba(Z)
        n = 1 if Z.shape[-1] == 1 else getattr(head, "n_decisions", Z.shape[-1])
        each = [head.decision(Z, np.full(Z.shape[:-1], k)) for k in range(n)]
        return each[0] if n == 1 else np.stack(each, axis=-1)

    def _call(self, P, y):
        if self._takes_tensors(P, y):
            values = self._tensors(P, y).detach().double().cpu().numpy()
        else:
            values = self.f(P) if y is None else self.f(P, y)
        return np.asarray(values, dtype=np.float64)

    # -- derivatives -----------------------------------------------------------------------
    def _tensors(self, P, y, leaf=None):
        import torch

        P = torch.tensor(P, dtype=torch.float64) if leaf is None else leaf
        return self.f(P) if y is None else self.f(P, torch.as_tensor(np.asarray(y)))

    def _takes_tensors(self, P, y):
        """Whether ``f`` is to be called with tensors."""
        if self.derivative != "auto":
            return self.derivative == "torch"
        torch = sys.modules.get("torch")
        if torch is None:
            return False
        try:
            leaf = torch.tensor(P, dtype=torch.float64, requires_grad=True)
            out = self._tensors(P, y, leaf)
        except (TypeError, RuntimeError, AttributeError, ValueError):
            return False  # a function of arrays, which a tensor with a gradient is not
        return isinstance(out, torch.Tensor) and out.requires_grad

    def _torch_gradient(self, P, y):
        import torch

        leaf = torch.tensor(P, dtype=torch.float64, requires_grad=True)
        out = self._tensors(P, y, leaf)
        if not (isinstance(out, torch.Tensor) and out.requires_grad):
            raise ValueError("f gives no tensor that depends on P; use derivative='numerical'")
        return torch.autograd.grad(out.sum(), leaf)[0].numpy()

    def _scales(self, P):
        """Lengths of which a small part is a small step: probabilities stay within 0 and 1."""
        if self.of == "proba":
            return np.maximum(P * (1 - P), 1e-12)
        return np.maximum(1.0, np.abs(P))

    def _numerical_gradient(self, P, y):
        steps = np.cbrt(np.finfo(float).eps) * self._scales(P)
        out, P = np.empty(P.shape), P.copy()
        if self.scalar:
            places = list(np.ndindex(*P.shape))
        else:  # a query's value is of its own row: all rows at once
            columns = [()] if P.ndim == 1 else [(k,) for k in range(P.shape[1])]
            places = [(slice(None), *k) for k in columns]
        for place in places:
            kept = np.copy(P[place])
            P[place] = kept + steps[place]
            up = self._call(P, y)
            P[place] = kept - steps[place]
            out[place] = (up - self._call(P, y)) / (2 * steps[place])
            P[place] = kept
        return out

    def _check(self, P, y, C):
        """Refuse a derivative that is zero, or that differences along a line contradict."""
        if not np.isfinite(C).all():
            raise ValueError("the derivative of f is not finite at the fitted predictions")
        if not C.any():
            raise ValueError(
                "the derivative of f is zero at every prediction: where f is piecewise constant, "
                "use a method that re-evaluates the target ('newton', 'exact', "
                "'infinitesimal_jackknife', 'refit')"
            )
        scales, step = self._scales(P), 1e-4
        line = scales * np.random.default_rng(0).uniform(-1, 1, P.shape)
        expected = (C * line).sum()
        found = (self._call(P + step * line, y) - self._call(P - step * line, y)).sum()
        found /= 2 * step
        size = np.sqrt(((C * scales) ** 2).sum())
        if abs(found - expected) > 2e-2 * size + 1e-6 * abs(expected):
            raise ValueError(
                f"along a line f changes by {found:.4g}, by its derivative {expected:.4g}: f is "
                "not differentiable at the fitted predictions, or detaches its argument. Use a "
                "method that re-evaluates the target, or derivative='numerical'"
            )
