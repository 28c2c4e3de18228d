"""Encoders of categories."""

import numpy as np
from sklearn.model_selection import check_cv
from sklearn.preprocessing import LabelBinarizer, OneHotEncoder, OrdinalEncoder, TargetEncoder

from .base import Stage, Stateless, stage_for


def codes_of(step, X):
    """Category index of every entry by a fitted encoder, -1 where it is unknown."""
    codes, known = step._transform(X, handle_unknown="ignore", ensure_all_finite="allow-nan")
    return np.where(known, codes, -1)


@stage_for.register(OneHotEncoder)
class OneHotStage(Stateless):
    """Indicator columns: they do not move.

    A category seen once leaves a column of zeros when its row goes: a penalised coefficient is
    then zero, as without the column.
    """

    def pull_inputs(self, X, C):
        """Categories have no derivative."""
        return np.zeros((len(C), X.shape[1]))

    def flipped_rows(self):
        """Rows whose removal could move a category into or out of the infrequent ones."""
        if not getattr(self.step, "_infrequent_enabled", False):
            return np.empty(0, dtype=np.intp)
        codes, out = codes_of(self.step, self.X), []
        limit = self.step.min_frequency or 0
        limit = limit * len(codes) if isinstance(limit, float) else limit
        for column in codes.T:
            counts = np.bincount(column[column >= 0])
            near = np.flatnonzero((counts >= limit) & (counts - 1 < limit))
            out.append(np.flatnonzero(np.isin(column, near)))
        return np.unique(np.concatenate(out)).astype(np.intp)


@stage_for.register(OrdinalEncoder)
class OrdinalStage(Stage):
    """Codes in the order of the categories; ``η`` is the code of every category.

    When the only row of a category goes, the codes behind it move down by one, and the category
    becomes unknown: it gets ``unknown_value`` where there is one, else it keeps its code.
    """

    def _prepare(self):
        self.codes = codes_of(self.step, self.X).astype(np.intp)
        self.sizes = [len(categories) for categories in self.step.categories_]
        self.starts = np.cumsum([0, *self.sizes])
        self.automatic = isinstance(self.step.categories, str)
        self.n_params = int(self.starts[-1]) if self.automatic else 0
        counts = [np.bincount(column[column >= 0]) for column in self.codes.T]
        self.rough = self.automatic and any((column == 1).any() for column in counts)

    def derivatives(self, rows):
        """Exact, by lookup."""
        out = np.zeros((len(rows), self.n_params))
        if not self.automatic:
            return out
        unknown = self.step.unknown_value
        for j, start in enumerate(self.starts[:-1]):
            counts = np.bincount(self.codes[:, j], minlength=self.sizes[j])
            for b in np.flatnonzero(counts[self.codes[rows, j]] == 1):
                code = self.codes[rows[b], j]
                out[b, start + code + 1 : start + self.sizes[j]] = -1.0
                if unknown is not None and np.isfinite(unknown):
                    out[b, start + code] = unknown - code
        return out

    def pull_params(self, X, C):
        """To the category of each entry."""
        out = np.zeros((len(C), self.n_params))
        if self.automatic:
            codes = codes_of(self.step, X).astype(np.intp)
            b, j = np.nonzero(codes >= 0)
            np.add.at(out, (b, self.starts[j] + codes[b, j]), C[b, j])
        return out

    def pull_inputs(self, X, C):
        """Categories have no derivative."""
        return np.zeros((len(C), X.shape[1]))

    def pull_fit(self, v):
        """Codes depend on which categories there are, not on numbers."""
        return 0.0


@stage_for.register(TargetEncoder)
class TargetEncoderStage(Stage):
    """Smoothed category means of ``y``, cross-fitted at training time.

    ``η`` holds the encodings of every fold and those of all rows: the last step was trained on
    the encodings of the folds, queries get those of all rows. The folds are held fixed when a
    row goes.
    """

    flat = False

    def _prepare(self):
        step = self.step
        self.codes = codes_of(step, self.X).astype(np.intp)
        self.sizes = np.array([len(categories) for categories in step.categories_])
        self.starts = np.cumsum([0, *self.sizes])[:-1]
        self.fold = self._folds()
        if step.target_type_ == "continuous":
            self.targets = np.asarray(self.y, dtype=float).reshape(len(self.codes), 1)
        else:
            self.targets = LabelBinarizer().fit(step.classes_).transform(self.y).astype(float)
        self.n_targets = self.targets.shape[1]
        self.n_sets = self.fold.max() + 2  # the folds, and all rows last
        self.n_codes = int(self.sizes.sum())
        self.set_size = self.n_codes * self.n_targets
        self.n_params = self.n_sets * self.set_size
        self.sums = [self._sums(self._members(s)) for s in range(self.n_sets)]
        self.eta = np.array([self._encodings(*sums) for sums in self.sums])

    def _folds(self):
        step = self.step
        random = {
            name: getattr(step, name)
            for name in ("shuffle", "random_state")
            if getattr(step, name, "deprecated") != "deprecated"
        }
        options = {"shuffle": True} | random
        cv = check_cv(step.cv, self.y, classifier=step.target_type_ != "continuous", **options)
        seed = getattr(cv, "random_state", None)
        if getattr(cv, "shuffle", False) and not isinstance(seed, int | np.integer):
            raise ValueError(
                "TargetEncoder drew its folds at random, so that the rows the last step was "
                "fitted on cannot be recovered; pass cv=KFold(5, shuffle=True, random_state=0), "
                "or StratifiedKFold for a classifier"
            )
        fold = np.empty(len(self.codes), dtype=np.intp)
        for number, (_, test) in enumerate(cv.split(self.codes, self.y)):
            fold[test] = number
        return fold

    def _members(self, s):
        """Rows from which set ``s`` is made."""
        everything = s == self.n_sets - 1
        return np.ones(len(self.fold), bool) if everything else self.fold != s

    def _sums(self, mask):
        """Counts, sums and sums of squares of every category, and of all members."""
        parts = []
        for values in (np.ones_like(self.targets), self.targets, self.targets**2):
            table = np.zeros((self.n_codes, self.n_targets))
            for j, start in enumerate(self.starts):
                use = mask & (self.codes[:, j] >= 0)
                np.add.at(table, start + self.codes[use, j], values[use])
            parts.append((table, values[mask].sum(axis=0)))
        (n, total), (s, mean), (q, square) = parts
        return n, s, q, total, mean, square

    def _encodings(self, n, s, q, total, sum_all, square_all):
        """Encodings from sums: shape of ``n``; complex sums give derivatives."""
        mean = sum_all / total
        smooth = self.step.smooth
        empty = np.real(n) < 1e-9
        n = np.where(empty, 1.0, n)
        if isinstance(smooth, str):
            variance = square_all / total - mean**2
            spread = (q - s**2 / n) / n
            share = variance * n + spread
            weight = np.where(share == 0, 0.0, variance * n / np.where(share == 0, 1.0, share))
            out = weight * s / n + (1 - weight) * mean
        else:
            out = (np.where(empty, 0.0, s) + smooth * mean) / (np.where(empty, 0, n) + smooth + 0.0)
            empty = empty & (smooth == 0)
        return np.where(empty, mean, out)

    def derivatives(self, rows):
        """Complex-step derivatives of the encodings in the weight of each row."""
        step = 1e-20
        return self._moved(rows, 1j * step).imag / step

    def removals(self, rows):
        """Downdated encodings minus encodings."""
        return self._moved(rows, 1.0).real - self.eta.reshape(1, -1)

    def _moved(self, rows, amount):
        """Encodings with ``amount`` of each of ``rows`` taken away: (b, n_params)."""
        out = np.empty((len(rows), self.n_sets, self.n_codes, self.n_targets), complex)
        out[:] = self.eta
        for b, i in enumerate(rows):
            y = self.targets[i]
            known = self.codes[i] >= 0
            own = (self.starts + self.codes[i])[known]
            for s in range(self.n_sets):
                if self.fold[i] == s:
                    continue
                n, first, second, total, mean, square = self.sums[s]
                tables = [np.array(table, dtype=complex) for table in (n, first, second)]
                for table, value in zip(tables, (np.ones_like(y), y, y**2), strict=True):
                    table[own] -= amount * value
                out[b, s] = self._encodings(
                    *tables, total - amount, mean - amount * y, square - amount * y**2
                )
        return out.reshape(len(rows), -1)

    def _training_outputs(self):
        return self._look_up(self.eta, self.codes, self.fold)

    def _look_up(self, eta, codes, sets):
        """Rows of encodings, feature by feature; an unknown category gets the mean."""
        columns = []
        for j, start in enumerate(self.starts):
            columns.append(eta[sets, start + np.maximum(codes[:, j], 0)])
        return np.stack(columns, axis=1).reshape(len(codes), -1)

    def pull_params(self, X, C):
        """To the encodings of all rows."""
        codes = codes_of(self.step, X).astype(np.intp)
        sets = np.full(len(codes), self.n_sets - 1)
        out = np.zeros((len(C), self.n_params))
        index, values = self._index(codes, sets, C)
        b = np.broadcast_to(np.arange(len(C))[:, None], index.shape)
        np.add.at(out, (b, index), values)
        return out

    def pull_sum(self, C):
        """To the encodings of each row's fold."""
        index, values = self._index(self.codes, self.fold, C)
        return np.bincount(index.ravel(), values.ravel(), minlength=self.n_params)

    def _index(self, codes, sets, C):
        entry = sets[:, None] * self.set_size + (self.starts + np.maximum(codes, 0)) * (
            self.n_targets
        )
        index = (entry[:, :, None] + np.arange(self.n_targets)).reshape(len(C), -1)
        known = np.repeat(codes >= 0, self.n_targets, axis=1)
        return index, np.where(known, C, 0.0)

    def pull_inputs(self, X, C):
        """Categories have no derivative."""
        return np.zeros((len(C), X.shape[1]))

    def pull_fit(self, v):
        """Nor have they here."""
        return 0.0

    def without(self, X, keep):
        """Encodings of the rows kept, folds as they were."""
        mask = np.zeros(len(self.fold), dtype=bool)
        mask[keep] = True
        eta = np.array(
            [self._encodings(*self._sums(self._members(s) & mask)) for s in range(self.n_sets)]
        )
        mean = self.targets[keep].mean(axis=0)

        def transform(rows):
            codes = codes_of(self.step, rows).astype(np.intp)
            out = self._look_up(eta, codes, np.full(len(codes), self.n_sets - 1))
            unknown = np.repeat(codes < 0, self.n_targets, axis=1)
            return np.where(unknown, np.tile(mean, len(self.starts)), out)

        return transform, self._look_up(eta, self.codes[keep], self.fold[keep])
