"""Leave-one-out predictions of rows in dask collections."""

from ..explainer import InfluenceExplainer


def left_out_rows(estimator, X, y, groups, cv, params, method, approximation, preprocessing):
    """Predictions of each row by the fit without it, as a dask array; "auto" is "newton"."""
    if cv is not None or groups is not None:
        raise ValueError("over a dask collection rows are left out one at a time: cv must be None")
    if approximation not in ("auto", "newton", "infinitesimal_jackknife"):
        raise ValueError(
            f"approximation={approximation!r} needs all rows at once; over a dask collection use "
            "'newton' or 'infinitesimal_jackknife'"
        )
    params = {} if params is None else params
    if set(params) - {"sample_weight"}:
        raise ValueError(
            f"params={sorted(params)}: over a dask collection only sample_weight is known"
        )
    explainer = InfluenceExplainer(
        estimator,
        method="newton" if approximation == "auto" else approximation,
        preprocessing=preprocessing,
    )
    explainer.fit(X, y, params.get("sample_weight"))
    return explainer._shards.left_out(method)
