"""Labelled rows to an adapter file: data, features, fit, evaluate. Imports backbone, adapters."""

from backbone.cores import bound_threads  # also before any library that would report to its maker

bound_threads()  # what is imported later reads it as it loads
