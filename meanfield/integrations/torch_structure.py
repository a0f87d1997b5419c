"""Which layers has a PyTorch model, in which roles, and is it a chain?

Modules are judged by their kind. The order of the layers, and what lies between them, is read
from the graph of `torch.fx`; it has the model's operations without any data. Forward code that
cannot be traced is taken on trust, and layers then follow each other as they are registered.
"""

import copy
import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from meanfield.activations import Activation
from meanfield.integrations.critical import framework
from meanfield.integrations.scope import (
    ATTENDS,
    DROPS,
    JOINS,
    NO_ACTIVATION,
    NORMALISES,
    OTHER_WEIGHTS,
    POOLS,
    TWICE,
    UNSEEN,
    Findings,
    Kinds,
    Part,
    compare_modules,
    judge_kinds,
    other_activation,
)

torch: Any = framework("torch", "torch")
fx: Any = framework("torch.fx", "torch")

LAYERS = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
LISTS = (torch.nn.ModuleList, torch.nn.ModuleDict)

# Functions that move numbers about without changing them, or mean them.
_MOVING = re.compile(
    "view|reshape|flatten|permute|transpose|contiguous|squeeze|dropout|pool|pad|interpolate|movedim"
    "|swapaxes|detach|clone|^(to|float|double|half|bfloat16|cpu|cuda|mean|getitem|t|type_as)$"
)
_ABOUT = {"size", "dim", "numel", "ndimension", "stride", "is_contiguous", "getattr", "len"}
# Functions that are what the module of this kind is.
_FUNCTIONS = (
    (re.compile("norm"), NORMALISES),
    (re.compile("attention"), ATTENDS),
    (re.compile("^(linear|bilinear|conv.*|.*matmul|bmm|mm|addmm|baddbmm|einsum)$"), OTHER_WEIGHTS),
)


def in_double(part: Any) -> Any:
    """Return a copy of a module in double precision."""
    return copy.deepcopy(part).to(device="cpu", dtype=torch.float64)


def _values(function: Callable[[Any], Any]) -> Callable[[Iterable[float]], Any]:
    def values(numbers: Iterable[float]) -> Any:
        with torch.no_grad():
            return function(torch.tensor(list(numbers), dtype=torch.float64)).numpy()

    return values


KINDS = Kinds(
    package="torch",
    layers=LAYERS,
    embeddings=(torch.nn.Embedding, torch.nn.EmbeddingBag),
    has_bias=lambda part: part.bias is not None,
    matrices=lambda part: any(own.ndim >= 2 for own in part.parameters(recurse=False)),
    rate=lambda part: part.p,
    values=lambda part: _values(in_double(part)),
)


def structure(
    model: Any, phi: Activation, sigma_b: float, findings: Findings, critical: bool
) -> list[Part]:
    """Return the layers in the order of their registration, and note what is no chain's.

    Dropout is noted where the scales are `critical`: those of the edge of chaos.
    """
    named = dict(model.named_modules())
    judge_kinds(named, KINDS, sigma_b, findings, critical)
    layers = {name: part for name, part in named.items() if isinstance(part, LAYERS)}
    graph = _graph(model, findings)
    if graph is None:
        order = list(layers)
        first, last = {order[0]}, {order[-1]}
        compare_modules(named, KINDS, phi, findings)
    else:
        first, last = _Chain(model, graph, findings).read(phi, critical)
    return [
        Part(
            name,
            layer,
            tuple(layer.weight.shape),
            getattr(layer, "groups", 1),
            isinstance(layer, torch.nn.Linear),
            layer.bias is not None,
            name in first,
            name in last,
        )
        for name, layer in layers.items()
    ]


def _graph(model: Any, findings: Findings) -> Any:
    """Return the graph of what `forward` does, or None where there is none to be seen."""
    if isinstance(model, (*LAYERS, *LISTS)):
        return None

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: Any, module_qualified_name: str) -> bool:
            innermost = not any(True for _ in m.children())
            return innermost or super().is_leaf_module(m, module_qualified_name)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Tracer().trace(model)
    except Exception as error:  # a user's forward may raise anything when it is traced
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        findings.doubt(
            "", model, f"its forward code cannot be traced, and is trusted to be a chain ({reason})"
        )
        return None


class _Chain:
    """The graph of a model, read along its operations.

    Each of them has sources: the layers, or the input, that it depends on through no other layer.
    """

    def __init__(self, model: Any, graph: Any, findings: Findings) -> None:
        self.model, self.graph, self.findings = model, graph, findings
        self.modules = dict(model.named_modules(remove_duplicate=False))
        # A module has one name, however often it is registered.
        self.names = {id(part): name for name, part in model.named_modules()}

    def read(self, phi: Activation, critical: bool) -> tuple[set[str], set[str]]:
        """Note what is no chain's; return the names of the layers that come first, and last."""
        sources: dict[Any, set[Any]] = {}
        calls: dict[str, list[Any]] = {}
        for node in self.graph.nodes:
            found = [sources[one] for one in node.all_input_nodes]
            reached = set().union(*found)
            if node.op == "placeholder":
                reached = {None}
            elif node.op in ("get_attr", "output") or self._name(node) in _ABOUT:
                reached = set()
            elif self._is_layer(node):
                calls.setdefault(self._layer_name(node), []).append(node)
                reached = {node}
            elif len(reached) > 1:
                self._fault(node, JOINS)
                reached = {node}
            elif reached:
                self._judge(node, critical)
            sources[node] = reached
        first, fed = set(), set()
        for name, nodes in calls.items():
            if len(nodes) > 1:
                self.findings.fault(name, self.modules[name], TWICE)
            before = sources[nodes[0].all_input_nodes[0]]
            if before <= {None}:
                first.add(name)
            fed |= {self._layer_name(node) for node in before if self._is_layer(node)}
        for name, part in self.modules.items():
            if isinstance(part, LAYERS) and self.names[id(part)] not in calls:
                self.findings.doubt(name, part, "the traced forward code does not call it")
        if not self.findings.faults:
            for name, (node,) in calls.items():
                (source,) = sources[node.all_input_nodes[0]] or {None}
                if source is not None:
                    self._compare(name, node.all_input_nodes[0], source, phi)
        return first, set(calls) - fed

    def _compare(self, name: str, end: Any, source: Any, phi: Activation) -> None:
        """Compare what lies between two layers with φ."""
        # It is named by its last operation that does not merely move numbers about.
        shown = end
        while shown is not source and self._is_moving(shown):
            shown = shown.all_input_nodes[0]
        if shown is source:
            identity, difference = other_activation(phi, _values(lambda x: x))
        else:
            try:
                identity, difference = other_activation(phi, _values(self._between(end, source)))
            except Exception:  # an operation may refuse a row of numbers
                self.findings.doubt(*self._shown(shown), UNSEEN)
                return
        if identity:
            self.findings.doubt(name, self.modules[name], NO_ACTIVATION)
        elif difference is not None:
            self._fault(shown, difference)

    def _between(self, end: Any, source: Any) -> Callable[[Any], Any]:
        """Return what is done from one operation to another as a function of a tensor."""

        def function(x: Any) -> Any:
            known = {source: x}

            def at(node: Any) -> Any:
                if node not in known:
                    known[node] = self._evaluate(node, at)
                return known[node]

            return at(end)

        return function

    def _evaluate(self, node: Any, at: Callable[[Any], Any]) -> Any:
        if self._is_moving(node):
            whole = at(node.all_input_nodes[0])
            # A part of a tuple, unlike one of a tensor, is another tensor.
            return node.target(whole, *node.args[1:]) if isinstance(whole, tuple) else whole
        if node.op == "get_attr":
            value = self.model
            for name in node.target.split("."):
                value = getattr(value, name)
            return value.detach().to(device="cpu", dtype=torch.float64)
        args, options = fx.node.map_arg(node.args, at), fx.node.map_arg(node.kwargs, at)
        if node.op == "call_module":
            return in_double(self.modules[node.target])(*args, **options)
        if node.op == "call_method":
            return getattr(args[0], node.target)(*args[1:], **options)
        return node.target(*args, **options)

    def _judge(self, node: Any, critical: bool) -> None:
        """Note what the functional form of a module is; modules themselves have been judged."""
        if node.op == "call_module":
            return
        name = self._name(node)
        for pattern, reason in _FUNCTIONS:
            if pattern.search(name):
                self._fault(node, reason)
        if "pool" in name or name == "mean":
            self.findings.doubt(*self._shown(node), POOLS)
        elif "dropout" in name and critical:
            self.findings.doubt(*self._shown(node), DROPS)

    def _is_layer(self, node: Any) -> bool:
        if node is None or node.op != "call_module":
            return False
        return isinstance(self.modules[node.target], LAYERS)

    def _layer_name(self, node: Any) -> str:
        return self.names[id(self.modules[node.target])]

    def _is_moving(self, node: Any) -> bool:
        if node.op == "call_module":
            return KINDS.moves(self.modules[node.target])
        return node.op != "get_attr" and _MOVING.search(self._name(node)) is not None

    def _name(self, node: Any) -> str:
        """Return the name of what an operation calls."""
        return node.target if isinstance(node.target, str) else node.target.__name__

    def _shown(self, node: Any) -> tuple[str, str]:
        """Return the name of the module that an operation belongs to, and what it is."""
        if node.op == "call_module":
            return node.target, type(self.modules[node.target]).__name__
        inside = list((node.meta.get("nn_module_stack") or {}).values())
        name, kind = inside[-1] if inside else ("", type(self.model))
        return name, f"{self._name(node)} in {kind.__name__}"

    def _fault(self, node: Any, reason: str) -> None:
        self.findings.fault(*self._shown(node), reason)
