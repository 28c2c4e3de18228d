"""
Wrong labels in a table
=======================

A tenth of the labels of a table of tumours is flipped. A committee that has not seen the row it
judges ranks the labels by how unlikely they are, and flags those to look at. Influence then says
why a row is suspect, and what removing the suspects would do.
"""

# %%
# Flip labels
# -----------

import os

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence.inspection import DetectionCurveDisplay, LabelQualityDisplay
from skinfluence.mislabel import MislabelDetector

FAST = os.environ.get("SKINFLUENCE_FAST") == "1"

X, y = load_breast_cancer(return_X_y=True)
X, X_valid, y, y_valid = train_test_split(X, y, test_size=150, stratify=y, random_state=0)
rng = np.random.default_rng(0)
flipped = np.zeros(len(y), dtype=bool)
flipped[rng.permutation(len(y))[: len(y) // 10]] = True
noisy = np.where(flipped, 1 - y, y)

# %%
# Find them
# ---------
# By default five unlike models judge.

model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
detector = MislabelDetector(model if FAST else "auto", random_state=0).fit(X, noisy)
flagged = detector.is_mislabeled_
print(f"{flagged.sum()} of {len(y)} labels flagged, {(flagged & flipped).sum()} of them flipped")
print(f"of {flipped.sum()} flipped labels, {(~flagged & flipped).sum()} not flagged")

# %%
# For comparison, the loss of a model that was trained on the labels it judges. It has learned some
# of the wrong ones.

proba = model.fit(X, noisy).predict_proba(X)[np.arange(len(y)), noisy]
for name, quality in (("detector", detector.label_quality_), ("training loss", proba)):
    print(f"{name}: average precision {average_precision_score(flipped, -quality):.2f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
LabelQualityDisplay.from_estimator(detector, ax=left)
DetectionCurveDisplay.from_estimator(detector, flipped, ax=right, name="detector")
DetectionCurveDisplay.from_quality(proba, flipped, ax=right, name="training loss")
figure.tight_layout()

# %%
# Why, and what then?
# -------------------
# The rows that support and contradict the label of the clearest suspect, and what removing all
# suspects would do to the log loss of validation rows, whose labels are right here.

effect = detector.removal_effect(X_valid, y_valid)
print(f"log loss of validation rows: {effect.loss:.3f}, without the suspects", end=" ")
print(f"{effect.loss_without:.3f}")
detector.explain(detector.ranking_[:1], k=3)
