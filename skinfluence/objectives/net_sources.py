"""Where a net comes from: a fitted skorch net or a scikit-learn MLP, read once.

A source holds a private copy of the module in eval mode (the user's own is never touched), the
rows it was fitted on, and what was minimised in *total* form: ``Σ_i w_i ℓ_i + ½ Σ_j λ_j θ_j²``.
Imported only when a net comes in.
"""

import copy
from collections.abc import Mapping

import numpy as np
import torch
from scipy import sparse
from skorch.dataset import Dataset
from skorch.utils import to_tensor

from .net_checks import check_fitted, check_independent, check_shapes
from .net_heads import known_losses, recognise
from .net_training import batch_shares, trained_rows, weight_decay
from .nets import compared_rows
from .rules import RemovalRule

PROBE_ROWS = 32
# Attributes of a source that are code, or hold it.
CODE = ("module", "_twin", "_criterion", "_whole", "_call")


class SkorchSource:
    """A fitted skorch net and the rows it was fitted on.

    Parameters
    ----------
    net : skorch.NeuralNet, fitted
    X : NetRows
    y : ndarray
    dtype : torch.dtype, optional
        In which precision to compute; default that of the module.
    """

    def __init__(self, net, X, y, dtype=None):
        check_fitted(net)
        self.net, self.X, self.y = net, X, y
        self.device = _device(net)
        self._copy(net, dtype)
        self._read_state()
        self.logs_probabilities = False
        self.trained = trained_rows(net, X, y)
        self._probe()
        self._weigh()

    def _copy(self, net, dtype):
        """A private net: eval mode, no reduction, no gradient flags, perhaps another dtype."""
        self._twin = _shallow(net)
        module, criterion = copy.deepcopy(net.module_).eval(), copy.deepcopy(net.criterion_)
        self.reduction = getattr(criterion, "reduction", None)
        if self.reduction is not None:
            criterion.reduction = "none"
        floats = {p.dtype for p in module.parameters()}
        if dtype is None and len(floats) > 1:
            raise ValueError(f"the module mixes parameter dtypes {floats}; pass Net(dtype=...)")
        self.dtype = next(iter(floats)) if dtype is None else dtype
        module.to(self.dtype), criterion.to(self.dtype)
        self._trainable = {name for name, p in module.named_parameters() if p.requires_grad}
        for p in module.parameters():
            p.requires_grad_(False)
        self._criterion = criterion
        vars(self._twin).update(module_=module, criterion_=criterion)
        self._whole = copy.deepcopy(net.criterion_).to(self.dtype)
        self.module, self._call = module, _Call(self._twin)

    def without_code(self):
        """What an archive holds: all but the module and the criterion."""
        return {name: value for name, value in vars(self).items() if name not in CODE}

    def with_code(self, state):
        """Take the module and the criterion from the net, the parameters from ``state``."""
        vars(self).update(state)
        self._copy(self.net, self.dtype)
        self.module.load_state_dict(_with_aliases(self.module, self.state))
        self._read_state()

    def probe(self):
        """Outputs and losses of some rows from among all."""
        x, y = self.batch(compared_rows(self.trained))
        with torch.no_grad():
            raw = self._raw(self.state, x)
            found = raw, self._own_losses(raw, y, x)
        return [part.double().cpu().numpy() for part in found]

    def _read_state(self):
        self.state = {
            **{name: p.detach() for name, p in self.module.named_parameters()},
            **dict(self.module.named_buffers()),
        }

    def __setstate__(self, state):
        """A net pickles its module apart from all else: give it back the one in use here."""
        vars(self).update(state)
        vars(self._twin).update(module_=self.module, criterion_=self._criterion)
        self._call = _Call(self._twin)

    def at(self, state):
        """The same rows and loss with other parameters and buffers (a dict of all of them)."""
        other = copy.copy(self)
        other.module = copy.deepcopy(self.module)
        other.module.load_state_dict(_with_aliases(other.module, state))
        other._read_state()
        other._twin = _shallow(self._twin)
        vars(other._twin).update(module_=other.module)
        other._call = _Call(other._twin)
        return other

    # -- rows ------------------------------------------------------------------------------
    def batch(self, rows):
        """Inputs and targets of training rows, on the device."""
        return self.inputs(self.X[rows]), self.targets(self.y[rows])

    def inputs(self, X):
        """Input rows as the module takes them."""
        self._check_dtype(X)
        if self.net.dataset is not Dataset:
            items = self.net.get_dataset(X.data)
            columns = torch.utils.data.default_collate([items[i][0] for i in range(len(X))])
            return self._cast(to_tensor(columns, device=self.device))
        data = X.data.toarray() if sparse.issparse(X.data) else X.data
        return self._cast(to_tensor(data, device=self.device))

    def _check_dtype(self, X):
        own = np.dtype(str(next(self.net.module_.parameters()).dtype).removeprefix("torch."))
        given = getattr(X.data, "dtype", own)
        if np.dtype(given).kind == "f" and given != own:
            raise ValueError(
                f"X is {given} but the module's parameters are {own}: pass X.astype(np.{own})"
            )

    def targets(self, y):
        """Targets as ``get_loss`` takes them."""
        y = to_tensor(np.require(y, requirements=["C", "W"]), device=self.device)
        return y.to(self.dtype) if y.dtype.is_floating_point else y

    def _cast(self, x):
        if isinstance(x, Mapping):
            return {name: self._cast(part) for name, part in x.items()}
        if isinstance(x, list | tuple):
            return [self._cast(part) for part in x]
        return x.to(self.dtype) if x.dtype.is_floating_point else x

    # -- the module ------------------------------------------------------------------------
    def outputs(self, state, x):
        """Outputs (b, K) at parameters ``state`` (a dict of all parameters and buffers)."""
        raw = self._raw(state, x)
        if not isinstance(raw, torch.Tensor):
            raise TypeError(
                f"the module returns a {type(raw).__name__}; only one tensor of outputs is "
                "supported: return the other values from another method of the module"
            )
        Z = raw.reshape(len(raw), -1)
        if self.logs_probabilities:
            return torch.log(Z + torch.finfo(Z.dtype).eps)
        return Z

    def _raw(self, state, x):
        inner = {f"module.{name}": value for name, value in state.items()}
        return torch.func.functional_call(self._call, inner, (x,))

    def _own_losses(self, raw, y, x):
        """Losses (b,) of raw outputs by the net's own ``get_loss``."""
        values = self._twin.get_loss(raw, y, X=x, training=False)
        if values.ndim and len(values) == len(raw):
            values = values.reshape(len(raw), -1)
            return values.sum(1) if self.reduction == "sum" else values.mean(1)

        def one(z, t, part=None):
            return self._twin.get_loss(z[None], t[None], X=_first_axis(part), training=False)

        return torch.func.vmap(one)(raw, y) if x is None else torch.func.vmap(one)(raw, y, x)

    def custom_losses(self, Z, y):
        """The same for outputs (b, K), at rows without inputs of their own."""
        raw = Z.exp() if self.logs_probabilities else Z
        return self._own_losses(raw.reshape(len(raw), *self._output_shape), y, None)

    def to_torch(self, Z, y):
        """Outputs and targets from numpy."""
        return torch.as_tensor(Z, dtype=self.dtype, device=self.device), self.targets(y)

    # -- what was minimised ----------------------------------------------------------------
    def _probe(self):
        """Recognise the head; refuse what breaks a sum over rows."""
        rows = self.trained[:PROBE_ROWS]
        x, y = self.batch(rows)
        with torch.no_grad():
            raw = self._raw(self.state, x)
            if isinstance(raw, torch.Tensor):
                self._output_shape = raw.shape[1:]
            Z = self.outputs(self.state, x)
            if not bool(torch.isfinite(Z).all()):
                raise ValueError("the net's outputs are not finite: did training diverge?")
            if not torch.equal(Z, self.outputs(self.state, x)):
                raise ValueError(
                    "the module gives different outputs on two calls in eval mode: it draws random "
                    "numbers (dropout called without self.training?). Influence needs a "
                    "deterministic module"
                )
            check_independent(self, x, Z)
            check_shapes(self._twin.get_loss, raw, y, x)
            losses = self._own_losses(raw, y, x)
            weights = self._class_weights(y)
            if _is_distribution(raw) and isinstance(self._whole, torch.nn.NLLLoss):
                self.logs_probabilities = True
                Z = self.outputs(self.state, x)
        self._check_only_outputs(raw, y, x)
        losses = losses / weights.clamp_min(1e-30)
        self._uses_inputs = _needs(self._twin.get_loss, raw, y)
        if self._uses_inputs:
            losses = self._without_row_weights(raw, Z, y, x)
        self.loss, self.head = recognise(
            Z, y, losses, self.custom_losses, self.to_torch, self._whole
        )
        if not self.loss.canonical:
            self.logs_probabilities = False
        self._check_mean(raw, y, x)

    def _without_row_weights(self, raw, Z, y, x):
        """Losses of a ``get_loss`` that reads weights from the inputs, weights taken out."""
        other = _draw(Z.shape).to(Z)
        for loss in known_losses(Z, y):
            here = self._own_losses(raw, y, x) / loss.value(Z, y)
            there = self._own_losses(other.reshape(raw.shape), y, x) / loss.value(other, y)
            if torch.allclose(here, there, rtol=1e-3):
                return loss.value(Z, y)
        raise ValueError(
            "get_loss uses X otherwise than for a weight a row of a known loss (cross-entropy, "
            "logistic, squared), so a query has no loss of its own"
        )

    def _row_weights(self):
        """Weights that ``get_loss`` reads from the inputs, one a row; ones without such."""
        out = np.ones(len(self.y))
        if not self._uses_inputs:
            return out
        for start in range(0, len(out), 256):
            rows = np.arange(start, min(start + 256, len(out)))
            x, y = self.batch(rows)
            with torch.no_grad():
                Z = _draw((len(rows), *self._output_shape)).to(self.device, self.dtype)
                plain = self.loss.value(Z.reshape(len(rows), -1), y)
                out[rows] = (self._own_losses(Z, y, x) / plain).double().cpu().numpy()
        return out

    def _check_only_outputs(self, raw, y, x):
        """Refuse a ``get_loss`` that adds a term of the parameters."""
        module = self._twin.module_
        for p in module.parameters():
            p.requires_grad_(True)
        value = self._twin.get_loss(raw.detach(), y, X=x, training=False)
        for p in module.parameters():
            p.requires_grad_(False)
        if value.requires_grad:
            raise ValueError(
                "get_loss uses the module's parameters besides its outputs (a penalty term?), "
                "which belongs to no row; express it through the optimizer's weight_decay"
            )

    def _class_weights(self, y):
        """Weights that the criterion gives to classes, one a row."""
        table = getattr(self._whole, "weight", None)
        kinds = torch.nn.CrossEntropyLoss | torch.nn.NLLLoss
        if isinstance(self._whole, kinds) and y.ndim == 1 and not y.dtype.is_floating_point:
            ones = torch.ones(len(y), dtype=self.dtype, device=self.device)
            out = ones if table is None else table[y.clamp(0, len(table) - 1)]
            return torch.where(y == self._whole.ignore_index, 0.0, out)
        return torch.ones(len(y), dtype=self.dtype, device=self.device)

    def _check_mean(self, raw, y, x):
        """How the reduced loss follows from the rows': a mean, a weighted mean or a sum."""
        twin = _shallow(self._twin)
        vars(twin).update(criterion_=self._whole)
        with torch.no_grad():
            whole = twin.get_loss(raw, y, X=x, training=False)
            parts = self._own_losses(raw, y, x)
            total = self._class_weights(y).sum()
        tolerance = 1e-3 if self.dtype == torch.float32 else 1e-7
        if whole.ndim:
            raise ValueError(
                "get_loss returns one value a row, so nothing was reduced to a loss that can be "
                "minimised: let get_loss return a mean or a sum"
            )
        if not bool(torch.isfinite(whole)):
            raise ValueError(
                f"the loss of a batch is {float(whole)}: skorch takes the logarithm of what the "
                "module returns before NLLLoss, so return probabilities, or logits with "
                "criterion=CrossEntropyLoss"
            )
        for form, expected in (("mean", parts.sum() / total), ("sum", parts.sum())):
            if torch.allclose(whole, expected, rtol=tolerance, atol=1e-8):
                self.form = form
                return
        raise ValueError(
            f"the loss of a batch ({float(whole):.6g}) is neither the mean "
            f"({float(parts.sum() / total):.6g}) nor the sum ({float(parts.sum()):.6g}) of its "
            "rows' losses, so a row cannot be taken out of it"
        )

    def _weigh(self):
        """Row weights, penalty and removal rule in total form."""
        n = len(self.y)
        used = np.zeros(n, dtype=bool)
        used[self.trained] = True
        factors = self._class_weights(self.targets(self.y)).double().cpu().numpy()
        steps, shares = batch_shares(self.net, len(self.trained))
        weights = np.zeros(n)
        weights[self.trained] = shares if self.form == "mean" else 1.0
        if self.form == "sum":
            weights[self.trained] = shares > 0
        recognised = self.loss.canonical
        total = float((weights * factors).sum())
        self.weights = weights * (factors if recognised else used & (factors > 0))
        self.weights = self.weights * self._row_weights()
        scale = total if self.form == "mean" else float(steps)
        self.penalties = {
            name: scale * decay for name, decay in weight_decay(self.net, self._trainable).items()
        }
        self._scale, self.centers, self.held = scale, {}, {}
        proximity = getattr(self.net, "proximity_", None)
        if proximity is not None:
            self.hold(proximity)
        mean_form = self.form == "mean" or steps > 1
        self.rule = RemovalRule(n, penalty_measure=weights * factors if mean_form else None)

    def hold(self, proximity):
        """Add ``½ α ‖θ - c‖²`` as the training loss has it: ``α`` like a weight decay."""
        strength = self._scale * proximity.alpha
        for name, center in proximity.centers.items():
            if name not in self.penalties:
                raise ValueError(
                    f"{name!r} is held near pretrained values but was not trained: share only "
                    "parameters that move, or use coupling='fixed'"
                )
            decay = self.penalties[name]
            self.penalties[name] = decay + strength
            pulled = center.detach().double().cpu().numpy().ravel()
            self.centers[name] = strength / (decay + strength) * pulled
            self.held[name] = strength

    def read(self, names, estimator):
        """``θ`` of another fitted net, float64."""
        values = dict(estimator.module_.named_parameters())
        parts = [values[name].detach().double().cpu().numpy().ravel() for name in names]
        return np.concatenate(parts)


def _with_aliases(module, state):
    """A state with every name of a parameter that several modules share."""
    first = {id(p): name for name, p in module.named_parameters()}
    shared = module.named_parameters(remove_duplicate=False)
    return {name: state[first[id(p)]] for name, p in shared} | dict(state)


def _device(net):
    """Where the net computes; with skorch's ``device=None``, where its module is."""
    if net.device is not None:
        return torch.device(net.device)
    return next(net.module_.parameters()).device


def _draw(shape):
    """Random outputs to probe a loss with; the user's random state is left alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _shallow(net):
    """A net with the same attributes (``copy.copy`` would pickle the modules)."""
    out = object.__new__(type(net))
    vars(out).update(vars(net))
    return out


class _Call(torch.nn.Module):
    """The module as the net calls it: through its ``infer``."""

    def __init__(self, net):
        super().__init__()
        self.module = net.module_
        self._net = (net,)  # in a tuple: not a submodule

    def forward(self, x):
        return self._net[0].infer(x)


def _needs(get_loss, raw, y):
    """Whether a loss cannot do without the inputs."""
    try:
        get_loss(raw, y, X=None, training=False)
    except (TypeError, KeyError, AttributeError, IndexError):
        return True
    return False


def _first_axis(x):
    """Give back the batch axis that vmap takes away."""
    if x is None:
        return None
    if isinstance(x, Mapping):
        return {name: _first_axis(part) for name, part in x.items()}
    return [_first_axis(p) for p in x] if isinstance(x, list | tuple) else x[None]


def _is_distribution(raw):
    if raw.ndim != 2 or raw.shape[1] < 2:
        return False
    ones = torch.ones_like(raw[:, 0])
    return bool((raw >= 0).all()) and torch.allclose(raw.sum(1), ones, atol=1e-4)
