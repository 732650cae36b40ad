"""What a head has to beat: no model at all, and a good one that needs no backbone."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

# The best log loss and accuracy on held-out training rows of a 77-class set, and near the best from
# 5 rows a class upward. The cap on terms costs nothing there and bounds the time.
STRENGTH = 100.0
MAX_TERMS = 10_000
MAX_ITERATIONS = 1_000
TOLERANCE = 1e-4


def majority_baseline(
    train_labels: NDArray[np.integer], test_labels: NDArray[np.integer], n_classes: int
) -> NDArray[np.float64]:
    """Probabilities [n_test, C]: each class's share of the training rows, whatever the text."""
    shares = np.bincount(train_labels, minlength=n_classes) / len(train_labels)
    return np.tile(shares, (len(test_labels), 1))


def tfidf_baseline(
    train_texts: Sequence[str],
    train_labels: NDArray[np.integer],
    test_texts: Sequence[str],
    n_classes: int,
    seed: int,
) -> NDArray[np.float64]:
    """Probabilities [n_test, C] of logistic regression on TF-IDF of single words and pairs.

    Falls back to the majority where the texts hold no word at all, emoji alone for instance.
    """
    # Single characters count as words, unlike scikit-learn's default: "I" and "1" carry meaning.
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, max_features=MAX_TERMS, token_pattern=r"\b\w+\b"
    )
    if not any(map(vectorizer.build_analyzer(), train_texts)):
        return majority_baseline(train_labels, np.zeros(len(test_texts), dtype=int), n_classes)
    with threadpool_limits(limits=1):
        terms = vectorizer.fit_transform(train_texts)
        # L-BFGS draws nothing; the seed is passed so that another solver would follow it.
        model = LogisticRegression(
            C=STRENGTH, tol=TOLERANCE, max_iter=MAX_ITERATIONS, random_state=seed % 2**32
        )
        with warnings.catch_warnings():
            # A baseline short of its tolerance is a baseline still; many small classes are usual.
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", message="The number of unique classes")
            model.fit(terms, train_labels)
        found = model.predict_proba(vectorizer.transform(test_texts))
    probabilities = np.zeros((len(test_texts), n_classes))
    probabilities[:, model.classes_] = found
    return probabilities
