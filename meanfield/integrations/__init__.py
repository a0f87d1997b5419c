"""Initialisation of models of other frameworks: PyTorch, Keras and Equinox.

Flax takes the initialisers of `meanfield.init` as they are. For each other framework there is a
module of its name; where the framework is absent, importing that says how to install it.
"""
