"""Initialisation of models of other frameworks: PyTorch, Flax, Keras and Equinox.

The models are chains of Linear and Conv layers with one pointwise activation between them; others
are refused. Flax takes the initialisers of `meanfield.init` as they are, too. There is a module
of each framework's name; where the framework is absent, importing that says how to install it.
"""
