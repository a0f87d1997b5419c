from collections.abc import Callable

class IntegrationWarning(UserWarning): ...

def quad(
    func: Callable[[float], float],
    a: float,
    b: float,
    *,
    epsabs: float = ...,
    epsrel: float = ...,
    limit: int = ...,
) -> tuple[float, float]: ...
