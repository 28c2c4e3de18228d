"""How the two stages of a fine-tuned model hang together: nets, and linear models."""

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from ._unwrap import unfrozen, unwrap
from .explainer import InfluenceExplainer
from .fine_tuning.nets import FineTunedMixin, check_coupling, shared_buffers, shared_names
from .fine_tuning.priors import PriorLogisticRegression, PriorRidge
from .methods.multi_stage import FixedCoupling, UpdatedCoupling
from .objectives.base import is_net
from .objectives.linear import LinearObjective


def coupling_of(face):
    """The :class:`Nets` or :class:`LinearModels` that a MultiStageInfluence was given."""
    models = {"pretrained": face.pretrained, "finetuned": face.finetuned}
    for name, model in models.items():
        steps = unwrap(model)[0]
        if steps:
            raise ValueError(
                f"{name} is a pipeline with the steps {[step for step, _ in steps]}: transform "
                "the rows first, and pass the model alone"
            )
    finetuned = unwrap(face.finetuned)[1]
    if is_net(finetuned):
        if not is_net(unfrozen(face.pretrained)):
            raise TypeError(
                f"finetuned is a net and pretrained a {type(unfrozen(face.pretrained)).__name__}: "
                "pass the skorch net that it started from"
            )
        return Nets(face)
    if isinstance(finetuned, PriorLogisticRegression | PriorRidge):
        return LinearModels(face)
    raise TypeError(
        f"finetuned is a {type(finetuned).__name__}, which starts from no other model: pass a "
        "skorch net, or skinfluence.fine_tuning.PriorLogisticRegression or PriorRidge"
    )


class Nets:
    """Two nets that share parameters.

    Parameters
    ----------
    face : MultiStageInfluence
    """

    def __init__(self, face):
        check_coupling(face.coupling, face.alpha)
        self.face = face
        self.fixed = face.coupling == "fixed"
        self.frozen = isinstance(face.finetuned, FrozenEstimator)
        if not self.frozen and not isinstance(face.finetuned, FineTunedMixin):
            raise TypeError(
                f"{type(face.finetuned).__name__} does not know how to start from another net: "
                "derive it from skinfluence.fine_tuning.FineTunedMixin, or pass a fine-tuned net "
                "inside FrozenEstimator"
            )

    def fine_tuning(self, pretrained):
        """An unfitted explainer of the fine-tuning stage, for this pretrained net."""
        from .objectives.net_stages import FixedStage, UpdatedStage

        face = self.face
        if not self.frozen:
            model = clone(face.finetuned).set_params(
                pretrained=FrozenEstimator(pretrained),
                shared=face.shared,
                coupling=face.coupling,
                alpha=face.alpha,
            )
            return InfluenceExplainer(
                model, objective=FixedStage() if self.fixed else UpdatedStage()
            )
        net = unwrap(face.finetuned)[1]
        names = shared_names(face.shared, pretrained.module_, net.module_)
        if self.fixed:
            return InfluenceExplainer(face.finetuned, objective=FixedStage(names))
        stage = UpdatedStage(self._proximity(names, pretrained, net))
        return InfluenceExplainer(face.finetuned, objective=stage)

    def _proximity(self, names, pretrained, net):
        """What held the shared parameters of a net fine-tuned before."""
        from .objectives.net_stages import stand_in

        alpha, proximity = self.face.alpha, getattr(net, "proximity_", None)
        if proximity is None:
            return stand_in(alpha, names, pretrained.module_)
        if proximity.alpha != alpha:
            raise ValueError(
                f"alpha={alpha} but the fine-tuned net was trained with alpha={proximity.alpha}"
            )
        if set(proximity.centers) != set(names):
            raise ValueError(
                f"shared names {names}, but the fine-tuned net held {list(proximity.centers)}"
            )
        values = dict(pretrained.module_.named_parameters())
        _check_equal(
            {name: values[name] for name in names},
            proximity.centers,
            "was not held near the pretrained net's value but near another: pass the net that "
            "fine-tuning started from, inside FrozenEstimator",
        )
        return proximity

    def bind(self, pretraining, fine_tuning):
        """``(coupling, names)`` of the two fitted stages, ``names`` the parameters between them."""
        from .objectives.net_stages import positions, unfixed

        face, first, second = self.face, pretraining.objective_, fine_tuning.objective_
        before, after = first.source.net.module_, second.source.net.module_
        names = shared_names(face.shared, before, after)
        moving = [name for name in names if name in first.slices]
        if not moving:
            raise ValueError(
                f"none of the shared parameters {names} was trained in pretraining: its rows have "
                "no influence through them"
            )
        into = positions(first, moving)
        if self.fixed:
            self._check_fixed(names, before, after)
            whole = unfixed(second, moving)
            own, shared = positions(whole, second.names), positions(whole, moving)
            solver = fine_tuning.solver_
            return FixedCoupling(whole, solver, own, shared, first.n_params, into), moving
        held = second.source.held
        strength = np.concatenate(
            [np.full(second.source.state[n].numel(), held[n]) for n in moving]
        )
        shared = positions(second, moving)
        solver = fine_tuning.solver_
        return UpdatedCoupling(second, solver, strength, shared, first.n_params, into), moving

    def _check_fixed(self, names, before, after):
        names = names + shared_buffers(self.face.shared, names, before)
        pairs = [
            {**dict(module.named_parameters()), **dict(module.named_buffers())}
            for module in (before, after)
        ]
        _check_equal(
            {name: pairs[0][name] for name in names},
            pairs[1],
            "is not the same in both nets, so it did not stay fixed: use coupling='updated' with "
            "alpha, or pass the net that fine-tuning started from, inside FrozenEstimator",
        )


class LinearModels:
    """A linear model, and one whose prior it is.

    Parameters
    ----------
    face : MultiStageInfluence
    """

    def __init__(self, face):
        if face.coupling != "updated":
            raise ValueError(
                f"coupling={face.coupling!r}: a linear model shares all its parameters, and fixed "
                "ones leave nothing to fine-tune; use coupling='updated'"
            )
        if face.shared not in ("*", ["*"], ("*",)):
            raise ValueError(
                f"shared={face.shared!r}: the prior holds every parameter of a linear model; pass "
                "shared='*'"
            )
        self.face = face

    def fine_tuning(self, pretrained):
        """An unfitted explainer of the fine-tuning stage, for this pretrained model."""
        alpha = self.face.alpha
        if not isinstance(self.face.finetuned, FrozenEstimator):
            changes = {} if alpha is None else {"alpha": alpha}
            model = clone(self.face.finetuned)
            return InfluenceExplainer(
                model.set_params(pretrained=FrozenEstimator(pretrained), **changes)
            )
        model = unwrap(self.face.finetuned)[1]
        if alpha is not None and alpha != model.alpha:
            raise ValueError(f"alpha={alpha} but the fine-tuned model has alpha={model.alpha}")
        for name in ("coef_", "intercept_"):
            if not np.array_equal(getattr(model.pretrained_, name), getattr(pretrained, name)):
                raise ValueError(
                    f"{name} of the prior of the fine-tuned model is not that of pretrained: pass "
                    "the model that is its prior, inside FrozenEstimator"
                )
        return InfluenceExplainer(self.face.finetuned)

    def bind(self, pretraining, fine_tuning):
        """``(coupling, names)`` of the two fitted stages, ``names`` the parameters between them."""
        first, second = pretraining.objective_, fine_tuning.objective_
        same = isinstance(first, LinearObjective) and first.n_params == second.n_params
        if not same or (first.design.intercept is None) != (second.design.intercept is None):
            raise TypeError(
                f"the objective of the pretrained {type(pretraining.estimator_).__name__} has "
                "other parameters than coef_ and intercept_, or is a set of independent fits; "
                "pretrain with LogisticRegression or Ridge"
            )
        units = first.public_parameters(np.ones((1, first.n_params)))[0]
        everything = np.arange(first.n_params)
        strength = second.penalty.ravel() * units
        solver = fine_tuning.solver_
        coupling = UpdatedCoupling(second, solver, strength, everything, first.n_params, everything)
        return coupling, ["coef_"] + ["intercept_"] * (first.design.intercept is not None)


def _check_equal(expected, values, message):
    for name, value in expected.items():
        other = values.get(name)
        if other is None or not bool((value.detach() == other.detach().to(value)).all()):
            raise ValueError(f"{name!r} {message}")
