"""Networks from their own packages behind the `Backbone` protocol, as their users built and trained them.

One file per package; each imports its package when an adapter is made, and nothing of the package is patched.
`finetuning.polarize` takes a trained model apart with them and makes a polarized one.
"""
