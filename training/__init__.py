"""Labelled rows to an adapter file: data, features, fit, evaluate. Imports backbone, adapters."""
