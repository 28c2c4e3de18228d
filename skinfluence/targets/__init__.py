"""Targets: which quantity is explained.

Of each query: :class:`Loss`, :class:`Decision`, :class:`Probability`, :class:`LogOdds`,
:class:`BrierScore`, :class:`AdversarialLoss`. Of all queries together (scalar: one influence a
training row): :class:`Mean` of one of these, :class:`DemographicParity`,
:class:`EqualOpportunity`, :class:`EqualizedOdds`, :class:`WorstGroupLoss`, :class:`AUROC`. Of
the model: :class:`Parameter`. Anything else: :class:`Functional`, sums, differences and multiples
(``Mean(a) - 0.5 * Mean(b)``), or a subclass of :class:`Target`.

``TARGETS`` names the defaults; add an entry to register another.
"""

from .._tensors import on_host
from .arithmetic import Combination, Mean
from .base import BoundTarget, Target
from .fairness import DemographicParity, EqualizedOdds, EqualOpportunity, WorstGroupLoss
from .functional import Functional
from .parameters import Parameter
from .predictions import BrierScore, Decision, LogOdds, Loss, Probability
from .ranking import AUROC
from .robustness import AdversarialLoss

__all__ = [
    "AUROC",
    "TARGETS",
    "AdversarialLoss",
    "BoundTarget",
    "BrierScore",
    "Combination",
    "Decision",
    "DemographicParity",
    "EqualOpportunity",
    "EqualizedOdds",
    "Functional",
    "LogOdds",
    "Loss",
    "Mean",
    "Parameter",
    "Probability",
    "Target",
    "WorstGroupLoss",
    "resolve_target",
]

#: Default targets by name.
TARGETS = {
    "loss": Loss,
    "decision": Decision,
    "proba": Probability,
    "log_odds": LogOdds,
    "brier": BrierScore,
    "adversarial": AdversarialLoss,
    "auroc": AUROC,
}


def resolve_target(target, has_y, X=None):
    """A target object from a name, an object, or ``"auto"``: loss with ``y``, else decision.

    Parameters
    ----------
    target : str or Target
    has_y : bool
        Whether the queries come with labels or targets.
    X : dataframe or array, optional
        The queries as given: what a target names by column is read from them.
    """
    if isinstance(target, str):
        if target == "auto":
            return Loss() if has_y else Decision()
        if target not in TARGETS:
            raise ValueError(f"target={target!r} is not one of 'auto', {sorted(TARGETS)}")
        target = TARGETS[target]()
    if not hasattr(target, "bind"):
        raise TypeError(f"target={target!r} has no bind; see skinfluence.targets.Target")
    return target.of_table(on_host(X)) if X is not None and hasattr(target, "of_table") else target
