"""Fitted explainers on disk, without pickled code: arrays as ``.npy``, all else as JSON."""

import json
import os
import platform
import zipfile
import zlib
from pathlib import Path

import numpy as np
import scipy
import sklearn
from sklearn.utils.validation import check_is_fitted

from ._distributed import check_whole
from ._objects import Decoder, Encoder

# Of the layout of an archive; raised when an older package could misread a newer archive.
FORMAT = 1

# What a truncated or altered archive raises when it is read.
DAMAGED = (zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError, EOFError)


class Archived:
    """Mixin: ``save`` and ``load`` of a fitted explainer."""

    def save(self, path):
        """Write the fitted explainer to an archive that holds no pickled code.

        The archive is a zip file: arrays as ``.npy``, the objects around them as JSON, and
        ``manifest.json`` with the versions it was made with. It holds the training rows and every
        factor, so that a loaded explainer gives the same numbers. The file appears under its
        name when it is whole.

        Parameters
        ----------
        path : str or path

        Raises
        ------
        TypeError
            If a part cannot be written as data, such as a function without a name that can be
            imported.

        Notes
        -----
        Of a skorch net the archive holds the parameters, the rows and every factor; its module is
        code, which :meth:`load` takes from a net of the same kind.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.linear_model import Ridge
        >>> from skinfluence import InfluenceExplainer
        >>> X, y = load_diabetes(return_X_y=True)
        >>> explainer = InfluenceExplainer(Ridge()).fit(X[:400], y[:400])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     explainer.save(Path(folder) / "ridge.influence")
        ...     loaded = InfluenceExplainer.load(Path(folder) / "ridge.influence")
        >>> loaded.transform(X[400:], y[400:]).shape
        (42, 400)
        """
        check_is_fitted(self)
        check_whole(self, "an archive")
        path = Path(path)
        partial = path.with_name(path.name + ".part")
        try:
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                encoder = Encoder(archive)
                archive.writestr("objects.json", json.dumps(encoder.encode(self)))
                archive.writestr("manifest.json", json.dumps(_manifest(type(self)), indent=1))
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path, *, trusted=(), net=None):
        """A fitted explainer from an archive that :meth:`save` made.

        Parameters
        ----------
        path : str or path
        trusted : list of str, default=()
            Full names of classes and functions that the archive may use besides scikit-learn's
            estimators, and what they and this package compute with: your own transformers, a
            distribution of scipy.stats.
        net : skorch net, optional
            For the archive of a net: one with the same module and criterion, fitted or not. It is
            copied, and given the parameters of the archive.

        Returns
        -------
        explainer

        Raises
        ------
        ValueError
            If the file is no such archive, was made by a newer version, or names types that are
            not trusted; if ``net`` is missing, or computes something else than the net of the
            archive did.
        """
        try:
            archive = zipfile.ZipFile(path)
            manifest = json.loads(archive.read("manifest.json"))
            objects = archive.read("objects.json")
        except (*DAMAGED, ValueError) as error:
            raise ValueError(f"{path} is no archive of a skinfluence explainer") from error
        with archive:
            if manifest["format"] > FORMAT:
                raise ValueError(
                    f"{path} has format {manifest['format']}, made by skinfluence "
                    f"{manifest['skinfluence']}; this version reads formats up to {FORMAT}: upgrade"
                )
            if manifest["class"] != cls.__name__:
                kind = manifest["class"]
                raise ValueError(f"{path} holds a {kind}; use {kind}.load to read it")
            try:
                loaded = Decoder(archive, trusted, net).decode(json.loads(objects))
            except DAMAGED as error:
                raise ValueError(f"{path} is damaged: {error}") from error
        if not isinstance(loaded, cls):
            raise ValueError(f"{path} is damaged: it holds a {type(loaded).__name__}")
        return loaded


def _manifest(kind):
    from . import __version__

    return {
        "format": FORMAT,
        "class": kind.__name__,
        "skinfluence": __version__,
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }
