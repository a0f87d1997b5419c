"""Types of what is called of SciPy: to infer them from its sources takes pyright a minute."""
