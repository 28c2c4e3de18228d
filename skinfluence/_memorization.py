"""What a model has memorised."""


class Memorization:
    """Mixin of an explainer with ``self_influence``."""

    def memorization(self):
        """How much of each training row's own probability is owed to the row itself.

        The probability of the row's own label **with** the row minus **without** it, as Feldman
        and Zhang (2020) define it: minus ``self_influence("proba")``, whose sign is that of all
        influences here. Near 1, the row is predicted only because it was trained on.

        Returns
        -------
        ndarray of shape (n_train,)

        References
        ----------
        Feldman, V. and Zhang, C. (2020). What neural networks memorize and why: discovering the
        long tail via influence estimation. NeurIPS. https://arxiv.org/abs/2008.03703

        Examples
        --------
        >>> from sklearn.datasets import load_breast_cancer
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.preprocessing import scale
        >>> from skinfluence import InfluenceExplainer
        >>> X, y = load_breast_cancer(return_X_y=True)
        >>> explainer = InfluenceExplainer(LogisticRegression()).fit(scale(X), y)
        >>> bool(explainer.memorization().min() >= 0)
        True
        """
        return -self.self_influence("proba")
