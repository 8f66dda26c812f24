"""Adapters that offer the `Backbone` protocol for networks of other packages, as their users built and trained them.

There is one file per package. It imports the package when an adapter is made, and patches nothing in it.
`finetuning.polarize` uses the adapters to make a polarized model from a trained one.
"""
