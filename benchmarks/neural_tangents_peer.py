"""Networks of tanh by neural-tangents 0.6.5, in an environment of its own.

It does not run on a current JAX: the first call makes an environment with JAX 0.4.30 in the user's
cache directory, from PyPI. Where that cannot be, the reason is printed and the peer is skipped.
"""

import json
import subprocess
import sys
import venv

DEGREES, LAYERS = (25, 50), 300
NEEDS = ("neural-tangents==0.6.5", "jax==0.4.30", "jaxlib==0.4.30", "numpy<2", "scipy<1.14")


def networks(sigma_w, sigma_b):
    """Return, by degree of its rule, (q*, χ1, c*) and the processor time; nothing if skipped."""
    import platformdirs

    home = platformdirs.user_cache_path("meanfield", appauthor=False) / "neural-tangents"
    python = home / "bin" / "python"
    try:
        if not python.exists():
            venv.create(home, with_pip=True)
            install = [python, "-m", "pip", "install", "--quiet", *NEEDS]
            subprocess.run(install, check=True, capture_output=True, text=True)
        answer = subprocess.run(
            [python, __file__],
            input=json.dumps([list(sigma_w), list(sigma_b)]),
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1]
        print(f"neural-tangents is skipped: {reason}", file=sys.stderr)
        return {}
    return {int(degree): found for degree, found in json.loads(answer.stdout).items()}


def main():
    """Read σw and σb from stdin, write the answers of every degree: runs in that environment."""
    import time
    import warnings

    import jax
    import jax.numpy as jnp
    from neural_tangents import stax

    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")
    sigma_w, sigma_b = (jnp.asarray(values) for values in json.load(sys.stdin))

    def solve(sigma_w, sigma_b, degree):
        inputs = jnp.sqrt(2.0) * jnp.array([[1.0, 0.0], [0.5, jnp.sqrt(0.75)]])
        phi = stax.ElementwiseNumerical(jnp.tanh, deg=degree)[2]
        dense = stax.Dense(1, sigma_w, sigma_b)[2]
        start = dense(phi(stax.Dense(1, 1.0, 0.0)[2](inputs, None)))
        kernel = jax.lax.fori_loop(0, LAYERS, lambda _, k: dense(phi(k)), start)
        # Its `nngp` holds an input with itself as one more pair, whose rounding error grows by χ1
        # in every layer, until it is q* c* in a chaotic network: `cov1` is q*.
        q = kernel.cov1[0]
        nngp = kernel.nngp.at[jnp.diag_indices(2)].set(q)
        slopes = phi(kernel.replace(nngp=nngp, ntk=jnp.ones_like(nngp))).ntk
        return q, sigma_w**2 * slopes[0, 0], nngp[0, 1] / q

    answers = {}
    for degree in DEGREES:
        compiled = jax.jit(jax.vmap(lambda a, b, degree=degree: solve(a, b, degree)))
        jax.block_until_ready(compiled(sigma_w, sigma_b))
        begin = time.process_time()
        found = jax.block_until_ready(compiled(sigma_w, sigma_b))
        took = time.process_time() - begin
        answers[degree] = [[values.tolist() for values in found], took]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
