"""One-vs-rest classifiers over any supported binary model."""

from operator import attrgetter

import numpy as np
from sklearn.multiclass import OneVsRestClassifier

from .base import objective_for
from .composite import IndependentOutputs
from .heads import BinaryHead, ClassifierHead, OneVsRestHead


@objective_for.register(OneVsRestClassifier)
def one_vs_rest_objective(estimator, X, y, sample_weight=None):
    """The objectives of the binary problems, side by side."""
    if estimator.multilabel_:
        raise ValueError("OneVsRestClassifier on several labels a row is not supported")
    classes = estimator.classes_
    codes = ClassifierHead(classes).encode(y)
    parts = []
    for k, binary in enumerate(estimator.estimators_):
        positive = 1 if len(classes) == 2 else k
        part = objective_for(binary, X, (codes == positive).astype(np.intp), sample_weight)
        if not isinstance(part.head, BinaryHead):
            raise TypeError(
                f"OneVsRestClassifier over {type(binary).__name__} is not supported: the base "
                "estimator is not a binary classifier with one decision value"
            )
        parts.append(part)
    if len(classes) == 2:
        base = parts[0].head
        head = BinaryHead(classes, base.loss_function, base.has_probability)
        return IndependentOutputs(parts, head, classes[1:], codes, attrgetter("estimators_"))
    head = OneVsRestHead(classes, parts[0].head.loss_function, parts[0].head.has_probability)
    return IndependentOutputs(parts, head, classes, codes, attrgetter("estimators_"))
