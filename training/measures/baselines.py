"""What a head has to beat: no model at all, and a good one that needs no backbone."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_predict
from threadpoolctl import threadpool_limits

# The best log loss and accuracy on held-out training rows of a 77-class set, and near the best from
# 5 rows a class upward. The cap on terms costs nothing there and bounds the time.
STRENGTH = 100.0
MAX_TERMS = 10_000
MAX_ITERATIONS = 1_000
TOLERANCE = 1e-4
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
FOLDS = 3

Floats = NDArray[np.float64]


def majority_baseline(
    train_labels: NDArray[np.integer], test_labels: NDArray[np.integer], n_classes: int
) -> Floats:
    """Probabilities [n_test, C]: each class's share of the training rows, whatever the text."""
    shares = np.bincount(train_labels, minlength=n_classes) / len(train_labels)
    return np.tile(shares, (len(test_labels), 1))


def mean_baseline(y: Floats, n_test: int) -> Floats:
    """[n_test, C]: the mean of training's y [n, C], whatever the text; of labels it is a share."""
    return np.tile(y.mean(axis=0), (n_test, 1))


def tfidf_baseline(
    train_texts: Sequence[str],
    train_labels: NDArray[np.integer],
    test_texts: Sequence[str],
    n_classes: int,
    seed: int,
) -> Floats:
    """Probabilities [n_test, C] of logistic regression on TF-IDF of single words and pairs.

    Falls back to the majority where the texts hold no word at all, emoji alone for instance.
    """
    terms = _terms(train_texts, test_texts)
    if terms is None:
        return majority_baseline(train_labels, np.zeros(len(test_texts), dtype=int), n_classes)
    train, test = terms
    model = _logistic(seed)
    with _quiet():
        found = model.fit(train, train_labels).predict_proba(test)
    probabilities = np.zeros((len(test_texts), n_classes))
    probabilities[:, model.classes_] = found
    return probabilities


def tfidf_labels_baseline(
    train_texts: Sequence[str], applies: Floats, test_texts: Sequence[str], seed: int
) -> tuple[Floats, Floats]:
    """Such a regression for each label of `applies` [n, C]: probabilities of tests and of training.

    Those of training are out of fold. A label with less rows on a side than folds has its share.
    """
    tests, out_of_fold = (
        mean_baseline(applies, len(test_texts)),
        mean_baseline(applies, len(applies)),
    )
    terms = _terms(train_texts, test_texts)
    if terms is None:
        return tests, out_of_fold
    train, test = terms
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed % 2**32)
    with _quiet():
        for label, truth in enumerate(applies.T > 0):
            if FOLDS <= truth.sum() <= len(truth) - FOLDS:
                model = _logistic(seed)
                found = cross_val_predict(model, train, truth, cv=folds, method="predict_proba")
                out_of_fold[:, label] = found[:, 1]
                tests[:, label] = model.fit(train, truth).predict_proba(test)[:, 1]
    return tests, out_of_fold


def tfidf_values_baseline(
    train_texts: Sequence[str], values: Floats, test_texts: Sequence[str], seed: int
) -> Floats:
    """Values [n_test, C] of ridge regression on TF-IDF, its penalty by cross-validation.

    The mean where the texts hold no word, or are less than folds.
    """
    terms = _terms(train_texts, test_texts)
    if terms is None or len(values) < FOLDS:
        return mean_baseline(values, len(test_texts))
    mean, spread = values.mean(axis=0), values.std(axis=0)
    standard = (values - mean) / np.where(spread > 0, spread, 1)
    folds = KFold(FOLDS, shuffle=True, random_state=seed % 2**32)
    search = GridSearchCV(Ridge(), {"alpha": PENALTIES}, scoring="neg_mean_squared_error", cv=folds)
    with _quiet():
        found = search.fit(terms[0], standard).predict(terms[1])
    unscaled: Floats = found.reshape(len(test_texts), len(mean)) * spread + mean
    return unscaled


def _terms(
    train_texts: Sequence[str], test_texts: Sequence[str]
) -> tuple[csr_matrix, csr_matrix] | None:
    """TF-IDF of single words and pairs, fitted to training; None where it holds no word."""
    # Single characters count as words, unlike scikit-learn's default: "I" and "1" carry meaning.
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, max_features=MAX_TERMS, token_pattern=r"\b\w+\b"
    )
    if not any(map(vectorizer.build_analyzer(), train_texts)):
        return None
    return vectorizer.fit_transform(train_texts), vectorizer.transform(test_texts)


def _logistic(seed: int) -> LogisticRegression:
    # L-BFGS draws nothing; the seed is passed so that another solver would follow it.
    return LogisticRegression(
        C=STRENGTH, tol=TOLERANCE, max_iter=MAX_ITERATIONS, random_state=seed % 2**32
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """One thread, so that the bits do not follow the cores, and no warnings that are usual.

    A baseline short of its tolerance is a baseline still; many small classes are usual.
    """
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The number of unique classes")
        yield
