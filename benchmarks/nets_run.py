"""One method on one problem, in a process of its own: ``nets_run.py METHOD PROBLEM.npz OUT.npz``.

Run by ``nets.py``, ours and each rival in its own environment; imports nothing but what the method
needs. Saves the scores (queries × training rows, positive where the row helps), seconds and
extra megabytes from the loaded net to the scores, and, on the noisy net, self-influence.
"""

import copy
import resource
import sys
import tempfile
import threading
import time
import warnings

import numpy as np
import torch
from nets_problem import Problem

warnings.filterwarnings("ignore")
torch.set_num_threads(1)


class Meter:
    """Seconds, processor seconds and peak resident megabytes above those at the start."""

    def __enter__(self):
        self.base = self.peak = _resident()
        self.running = True
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        self.cpu = -_processor()
        self.seconds = -time.perf_counter()
        return self

    def __exit__(self, *error):
        self.seconds += time.perf_counter()
        self.cpu += _processor()
        self.running = False
        self.thread.join()
        self.megabytes = (self.peak - self.base) / 2**20

    def _watch(self):
        while self.running:
            self.peak = max(self.peak, _resident())
            time.sleep(0.02)


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def _processor():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# -- ours ------------------------------------------------------------------------------------
def skorch_net(problem):
    """The problem's net as skorch would have trained it."""
    from skorch import NeuralNetClassifier, NeuralNetRegressor

    classifies = problem.task == "classification"
    options = {"criterion": torch.nn.CrossEntropyLoss} if classifies else {}
    return (NeuralNetClassifier if classifies else NeuralNetRegressor)(
        lambda: problem.module(),
        optimizer=torch.optim.Adam,
        optimizer__weight_decay=problem.wd,
        train_split=None,
        batch_size=-1,
        verbose=0,
        **options,
    ).initialize()


def ours(solver):
    """A frozen skorch net in an InfluenceExplainer."""

    def run(problem):
        from sklearn.frozen import FrozenEstimator

        import skinfluence.objectives.net_sources  # as rivals are imported by now
        import skinfluence.objectives.neural_newton  # noqa: F401
        from skinfluence import InfluenceExplainer

        net = skorch_net(problem)
        explainer = InfluenceExplainer(FrozenEstimator(net), solver=solver())
        arrays = [part.numpy() for part in (problem.X, problem.y, problem.Xq, problem.yq)]
        with Meter() as meter:
            explainer.fit(*arrays[:2])
            scores = explainer.transform(*arrays[2:])
        report = {k: v for k, v in explainer.solver_.report_.items() if k != "fallback"}
        return scores, meter, lambda: explainer.self_influence(), str(report)

    return run


def default():
    """The default of the package."""
    return "auto"


def damped():
    """The default, damped for nets that fit their rows one by one."""
    from skinfluence.solvers import ConjugateGradient

    return ConjugateGradient(damping="leverage")


def solver(name, **options):
    """A solver of the package by name."""

    def make():
        from skinfluence import solvers

        return getattr(solvers, name)(**options)

    return make


# -- the reference: dense damped Gauss-Newton in double precision ----------------------------------
def row_gradients(problem, X, y):
    """Row gradients of the loss, (n, p), in the order of the module's parameters."""
    module = problem.module()
    params = {name: p.detach() for name, p in module.named_parameters()}

    def loss(params, x, t):
        return problem.loss(torch.func.functional_call(module, params, (x[None],)), t[None])

    per_row = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))
    parts = [per_row(params, X[i : i + 256], y[i : i + 256]) for i in range(0, len(X), 256)]
    return torch.cat([torch.cat([g.flatten(1) for g in part.values()], 1) for part in parts])


def dense(problem):
    """Woodbury over all rows of the curvature whose trace counts, formed densely."""
    with Meter() as meter:
        module = problem.module()
        params = {name: p.detach() for name, p in module.named_parameters()}
        with torch.no_grad():
            Z = module(problem.X)
        if problem.task == "classification":
            P = Z.softmax(1)
            root = P.sqrt()
            columns = torch.diag_embed(root) - P[:, :, None] * root[:, None]
        else:
            columns = torch.full((len(Z), 1, 1), 2**0.5)

        def pulled(params, x, c):
            return (torch.func.functional_call(module, params, (x[None],))[0] * c).sum()

        per_row = torch.func.vmap(torch.func.grad(pulled), (None, 0, 0))
        n, rows = len(Z), []
        for k in range(columns.shape[2]):
            for i in range(0, n, 256):
                part = per_row(params, problem.X[i : i + 256], columns[i : i + 256, :, k])
                part = torch.cat([g.flatten(1) for g in part.values()], 1) / n**0.5
                rows.append(part)
        rows = torch.cat(rows)
        traces = (rows**2).sum(1)
        order = traces.argsort()
        n_left_out = int((traces[order].double().cumsum(0) < 1e-3 * problem.wd).sum())
        A = rows[order[n_left_out:]].double()
        del rows
        G = row_gradients(problem, problem.X, problem.y).double()
        Q = row_gradients(problem, problem.Xq, problem.yq).double()
        kernel = A @ A.T
        kernel.diagonal().add_(problem.wd)
        L = torch.linalg.cholesky(kernel)
        left, right = (torch.linalg.solve_triangular(L, A @ V.T, upper=False) for V in (Q, G))
        scores = (Q @ G.T - left.T @ right) / problem.wd

    def own():
        return ((G**2).sum(1) - (right**2).sum(0)) / problem.wd

    return scores, meter, own, f"{len(A)} rows kept"


def dot(problem):
    """Dot products of gradients."""
    with Meter() as meter:
        G = row_gradients(problem, problem.X, problem.y)
        scores = row_gradients(problem, problem.Xq, problem.yq) @ G.T
    return scores, meter, lambda: (G**2).sum(1), ""


def loss_alone(problem):
    """No influence at all: a row's own loss."""
    with Meter() as meter, torch.no_grad():
        own = problem.loss(problem.module()(problem.X), problem.y, "none").reshape(len(problem.X))
    return None, meter, lambda: own, ""


# -- rivals ----------------------------------------------------------------------------------
def pydvl(kronecker_corrected):
    """pyDVL's EkfacInfluence (KFAC without the corrected diagonal)."""

    def run(problem):
        from pydvl.influence import InfluenceMode
        from pydvl.influence.torch import EkfacInfluence
        from torch.utils.data import DataLoader, TensorDataset

        module = problem.module()
        n = len(problem.X)
        with Meter() as meter:
            model = EkfacInfluence(
                module, update_diagonal=kronecker_corrected, hessian_regularization=problem.wd
            ).fit(DataLoader(TensorDataset(problem.X, problem.y), batch_size=n))
            factors = model.influence_factors(problem.Xq, problem.yq)
            scores = model.influences_from_factors(
                factors, problem.X, problem.y, mode=InfluenceMode.Up
            )

        def own():
            factors = model.influence_factors(problem.X, problem.y)
            return (factors * row_gradients(problem, problem.X, problem.y)).sum(1)

        return scores, meter, own, ""

    return run


def kronfluence(problem):
    """kronfluence's EKFAC, damped by the weight decay."""
    import logging

    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task
    from torch.utils.data import TensorDataset

    logging.disable(logging.INFO)

    class Loss(Task):
        def compute_train_loss(self, batch, model, sample=False):
            x, y = batch
            Z = model(x)
            if sample and problem.task == "classification":
                with torch.no_grad():
                    y = torch.multinomial(Z.softmax(1), 1).flatten()
            elif sample:
                with torch.no_grad():
                    y = Z + 0.5**0.5 * torch.randn_like(Z)
            return problem.loss(Z, y, "sum")

        def compute_measurement(self, batch, model):
            return self.compute_train_loss(batch, model)

    torch.manual_seed(0)
    n, task = len(problem.X), Loss()
    train = TensorDataset(problem.X, problem.y)
    queries = TensorDataset(problem.Xq, problem.yq)
    module = prepare_model(copy.deepcopy(problem.module()), task)
    folder = tempfile.mkdtemp()
    score_args = ScoreArguments(damping_factor=problem.wd)
    with Meter() as meter:
        analyzer = Analyzer("a", module, task, cpu=True, output_dir=folder, disable_tqdm=True)
        analyzer.fit_all_factors(
            "f", train, per_device_batch_size=n, factor_args=FactorArguments(strategy="ekfac")
        )
        analyzer.compute_pairwise_scores(
            "s",
            "f",
            queries,
            train,
            per_device_query_batch_size=len(problem.Xq),
            per_device_train_batch_size=n,
            score_args=score_args,
        )
        scores = analyzer.load_pairwise_scores("s")["all_modules"]

    def own():
        analyzer.compute_self_scores(
            "z", "f", train, per_device_train_batch_size=n, score_args=score_args
        )
        return analyzer.load_self_scores("z")["all_modules"]

    return scores, meter, own, ""


def curvlinops(problem):
    """20 iterations of conjugate gradients on curvlinops' Gauss-Newton operator."""
    from curvlinops import GGNLinearOperator

    module = problem.module()
    loss = torch.nn.CrossEntropyLoss() if problem.task == "classification" else torch.nn.MSELoss()
    with Meter() as meter:
        G = row_gradients(problem, problem.X, problem.y)
        b = row_gradients(problem, problem.Xq, problem.yq).T.contiguous()
        parameters = list(module.parameters())
        batches = [(problem.X, problem.y)]
        operator = GGNLinearOperator(module, loss, parameters, batches, check_deterministic=False)
        x, r, p = torch.zeros_like(b), b.clone(), b.clone()
        size = (r * r).sum(0)
        for _ in range(20):
            q = operator @ p + problem.wd * p
            step = size / (p * q).sum(0).clamp_min(1e-30)
            x += step * p
            r -= step * q
            last, size = size, (r * r).sum(0)
            p = r + (size / last.clamp_min(1e-30)) * p
        scores = x.T @ G.T
    return scores, meter, None, ""


def dattri(problem):
    """dattri's conjugate gradients (10 iterations) on the Hessian, full batch."""
    from dattri.algorithm import IFAttributorCG
    from dattri.task import AttributionTask
    from torch.utils.data import DataLoader, TensorDataset

    module = problem.module()

    def loss(params, data):
        return problem.loss(torch.func.functional_call(module, params, data[0]), data[1])

    state = {name: value.clone() for name, value in module.state_dict().items()}
    train = DataLoader(TensorDataset(problem.X, problem.y), batch_size=len(problem.X))
    queries = DataLoader(TensorDataset(problem.Xq, problem.yq), batch_size=len(problem.Xq))
    with Meter() as meter:
        task = AttributionTask(loss_func=loss, model=module, checkpoints=state)
        attributor = IFAttributorCG(task=task, regularization=problem.wd)
        attributor.cache(train)
        with torch.no_grad():
            scores = attributor.attribute(train, queries)
    return scores.T, meter, None, ""


def captum(problem):
    """captum's Arnoldi influence, damped by the weight decay."""
    from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction
    from torch import nn
    from torch.utils.data import TensorDataset

    class Named(nn.Module):  # captum walks attributes
        def __init__(self, sequence):
            super().__init__()
            self.first, self.act, self.second, _, self.third = sequence

        def forward(self, x):
            return self.third(self.act(self.second(self.act(self.first(x)))))

    net = Named(problem.module()).eval()
    path = f"{tempfile.mkdtemp()}/net.pt"
    torch.save(net.state_dict(), path)

    def load(module, path):
        module.load_state_dict(torch.load(path))
        module.eval()
        return 1.0

    classifies = problem.task == "classification"
    loss = (nn.CrossEntropyLoss if classifies else nn.MSELoss)(reduction="sum")
    with Meter() as meter:
        model = ArnoldiInfluenceFunction(
            net,
            TensorDataset(problem.X, problem.y),
            path,
            checkpoints_load_func=load,
            batch_size=len(problem.X),
            loss_fn=loss,
            sample_wise_grads_per_batch=True,
            hessian_reg=problem.wd,
            arnoldi_tol=1e-6,
            projection_dim=100,
            hessian_inverse_tol=1e-4,
        )
        scores = model.influence((problem.Xq, problem.yq))
    return scores, meter, model.self_influence, ""


METHODS = {
    "default": ours(default),
    "default, leverage": ours(damped),
    "EKFAC": ours(solver("EKFAC")),
    "KFAC": ours(solver("KFAC")),
    "direct (dual)": ours(solver("Direct", form="dual")),
    "diagonal": ours(solver("Diagonal")),
    "identity": ours(solver("Identity")),
    "dense reference": dense,
    "gradient dot product": dot,
    "loss alone": loss_alone,
    "kronfluence EKFAC": kronfluence,
    "pyDVL EKFAC": pydvl(True),
    "pyDVL KFAC": pydvl(False),
    "captum Arnoldi-100": captum,
    "dattri CG-10, Hessian": dattri,
    "curvlinops CG-20": curvlinops,
}


# Self-influence of all rows is a solve a row, or a second dense fit, to these: left out.
SLOW = {"default", "default, leverage", "direct (dual)", "dense reference", "captum Arnoldi-100"}


def main(method, path, out):
    """Run a method on the clean net, and its self-influence on the noisy one."""
    problem = Problem(path)
    scores, meter, own, note = METHODS[method](problem)
    saved = {"seconds": meter.seconds, "cpu": meter.cpu, "megabytes": meter.megabytes}
    if scores is not None:
        saved["scores"] = np.asarray(torch.as_tensor(scores).detach().float())
    if own is not None and method not in SLOW and "flipped" in np.load(path):
        _, _, own, _ = METHODS[method](Problem(path, noisy=True))
        saved["own"] = np.asarray(torch.as_tensor(own()).detach().float())
    np.savez(out, note=note, **saved)
    print(f"{method}: {meter.seconds:.2f} s, {meter.megabytes:.0f} MB {note}")


if __name__ == "__main__":
    main(*sys.argv[1:])
