"""A network as compiled code for a processor (torch's inductor): traced once for a shape, its weights folded into it.

The code names what it needs of the weights, and the steps from the weights to these values are kept with it (see
`folded`). So it lies on disk without them, and the next process, or another network of the same structure, takes the
steps with its own weights and traces nothing. Code in memory holds the values that were made from one module's weights:
it belongs to that module, and goes with it.
"""

from __future__ import annotations

import base64
import copy
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .code_files import read_code, write_code
from .environment import libraries
from .folded import Step, fold, fold_weights, taken
from .products import are_by_onednn, product
from .settle import code_folder, processor
from .structure import Unstated, structure, tensors_of
from .winograd import decomposed

__all__ = ["OWN", "Frozen"]

OWN = "graphflow compiled"
"""Where a network keeps its compiled form: it goes with it."""
SMALL = 1 << 24
"""Bytes of numbers that are neither weights nor made from them, and lie in the file: the tables of positions that
Z-Image computes for itself are 6 MB."""
Run = Callable[[list[Any]], Sequence[Any]]


class NotTraced(Exception):
    """A network whose computation cannot be written down as one graph of tensors."""


class Frozen:
    """A network as compiled code, called as the network is. Its other attributes are those of the network."""

    def __init__(self, network: torch.nn.Module, otherwise: Callable[[torch.nn.Module], Callable[..., Any]]) -> None:
        """`otherwise` makes what is called where the network is not to be traced."""
        self.__dict__.update(_network=network, _otherwise=otherwise, _codes={}, _structure=None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_network"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._network, name, value)
        self.__dict__["_structure"] = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        leaves, form = pytree.tree_flatten((arguments, named))
        if self._structure is None:
            self.__dict__["_structure"] = _structure(self._network)
        key = (self._structure, str(form), tuple(_shape(leaf) for leaf in leaves))
        code = self._codes.get(key)
        if code is None:
            try:
                with torch.inference_mode(False), torch.no_grad():
                    code = _code(self._network, arguments, named, key)
            except NotTraced:
                other = self._otherwise(self._network)
                self.__dict__["_otherwise"] = lambda _: other
                code = other
            self._codes[key] = code
        return code(leaves) if isinstance(code, _Code) else code(*arguments, **named)


def _structure(network: torch.nn.Module) -> str:
    """Empty where it cannot be stated: such code is not kept on disk."""
    try:
        return structure(network).hex()
    except Unstated:
        return ""


def _shape(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return tuple(leaf.shape), leaf.stride(), str(leaf.dtype), str(leaf.device)
    if leaf is None or isinstance(leaf, bool | int | float | str | torch.dtype | torch.device):
        return repr(leaf)
    return type(leaf)  # it cannot be traced


class _Code:
    """Compiled code with the values that it was given in place of the weights."""

    def __init__(self, run: Run, kept: Sequence[int], outputs: pytree.TreeSpec) -> None:
        self._run, self._kept, self._outputs = run, kept, outputs

    def __call__(self, leaves: Sequence[Any]) -> Any:
        return pytree.tree_unflatten(list(self._run([leaves[index] for index in self._kept])), self._outputs)


def _code(network: torch.nn.Module, arguments: Any, named: Any, key: tuple[Any, ...]) -> _Code:
    code_folder()
    name = _file(key) if key[0] else None
    content = read_code(name) if name else None
    found = None
    if content is not None:
        with suppress(
            ArithmeticError, AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError
        ):
            found = _loaded(content, network)  # what cannot be loaded is made anew
    return found or _compiled(network, arguments, named, name)


def _file(key: tuple[Any, ...]) -> str:
    """What decides compiled code: the network, what it is asked, the processor, and the programs that make it."""
    config: Any = import_module("torch._inductor.config")
    facts = (
        key,
        libraries("torch", "diffusers", "transformers"),
        sys.version,
        platform.machine(),
        processor(),
        torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(),
        sorted(config.save_config_portable().items()),
        *(
            blake2b(Path(sys.modules[one.__module__].__file__ or "").read_bytes()).hexdigest()
            for one in (Frozen, fold, decomposed, product)
        ),
    )
    return blake2b(repr(facts).encode(), digest_size=20).hexdigest()


def _loaded(content: Mapping[str, Any], network: torch.nn.Module) -> _Code | None:
    """None where values that stand in the code are others in this network."""
    tensors = tensors_of(network)
    weights = {name: tensors[target] for name, target in content["weights"].items()}
    numbers = {name: _tensor(stated) for name, stated in content["numbers"].items()}
    steps = [Step(**step) for step in content["steps"]]
    values = {**weights, **numbers}
    values.update(taken(steps, values))
    if any(values[name].tolist() != stated for name, stated in content["inlined"].items()):
        return None
    codecache: Any = import_module("torch._inductor.codecache")
    config: Any = import_module("torch._inductor.config")
    with config.patch(compile_threads=1):  # all is there: helping processes would only have to start
        key, path = codecache.write(content["source"], "py")
        attributes = {name: values[of] for name, of in content["values"].items()}
        module = codecache.PyCodeCache.load_by_key_path(key, path, [], attributes)
    _release(module)
    return _Code(module.call, content["kept"], pytree.treespec_loads(content["outputs"]))


def _compiled(network: torch.nn.Module, arguments: Any, named: Any, name: str | None) -> _Code:
    traced, outputs = _traced(network, arguments, named)
    specs = traced.graph_signature.input_specs
    state, tensors = {**traced.state_dict, **traced.constants}, tensors_of(network)
    weights: dict[int, tuple[str, Tensor]] = {}
    numbers: dict[int, tuple[str, Tensor]] = {}
    for index, spec in enumerate(specs):
        if spec.target is not None:
            of = weights if spec.target in tensors else numbers
            of[index] = (f"weight_{index}", state[spec.target])
    inner = _Inner({**weights, **numbers})
    compiler: Any = import_module("torch._inductor.compile_fx")
    known: Any = import_module("torch._inductor.decomposition")
    table = {**known.select_decomp_table(), torch.ops.aten.convolution.default: decomposed}
    inputs = [node.meta.get("val") for node in traced.graph.nodes if node.op == "placeholder"]
    config: Any = import_module("torch._inductor.config")
    with config.patch(freezing=False):  # `inner` folds the weights
        compiler.compile_fx(traced.graph_module, inputs, inner_compile=inner, decompositions=table)
    first = len(weights) + len(numbers)
    kept = [index - first for index in inner.kept]
    others = {**dict(numbers.values()), **inner.numbers}
    if name is not None:
        content = {
            "source": inner.code.source_code,
            "values": inner.values,
            "steps": [asdict(step) for step in inner.steps],
            "inlined": inner.inlined,
            "weights": {stated: specs[index].target for index, (stated, _) in weights.items()},
            "numbers": {stated: _stated(tensor) for stated, tensor in others.items()},
            "kept": kept,
            "outputs": pytree.treespec_dumps(outputs),
        }
        if sum(tensor.nbytes for tensor in others.values()) <= SMALL:
            write_code(name, content, list(_libraries(_module(inner.code))))
    _release(_module(inner.code))
    return _Code(inner.code, kept, outputs)


def _traced(network: torch.nn.Module, arguments: Any, named: Any) -> tuple[Any, pytree.TreeSpec]:
    """The network as a graph. A copy with the same weights is traced: tracing puts others in their place meanwhile, and
    the network may be at work in another thread."""
    if any(isinstance(_shape(leaf), type) for leaf in pytree.tree_leaves((arguments, named))):
        raise NotTraced("it is asked with objects")
    shared: dict[int, Any] = {id(tensor): tensor for tensor in tensors_of(network).values()}
    shared.update({id(module.__dict__[OWN]): None for module in network.modules() if OWN in module.__dict__})
    try:
        alike = copy.deepcopy(network, shared)
        found = torch.export.export(alike, arguments, named, strict=False)
    except Exception as error:  # of many kinds
        raise NotTraced(str(error).strip().partition("\n")[0] or type(error).__name__) from error
    signature, outputs = found.graph_signature, found.call_spec.out_spec
    plain = [
        spec.kind.name == "USER_OUTPUT" and type(spec.arg).__name__ == "TensorArgument"
        for spec in signature.output_specs
    ]
    holders = [spec.target is not None for spec in signature.input_specs]
    if outputs is None or not all(plain) or holders != sorted(holders, reverse=True):
        raise NotTraced("it changes what it is given, or gives other things than tensors")
    return found, outputs


class _Inner:
    """Inductor's step from a graph of operators to code, with the weights folded into the graph first."""

    def __init__(self, weights: Mapping[int, tuple[str, Tensor]]) -> None:
        self._weights = weights
        self.numbers: dict[str, Tensor] = {}
        """What inductor has computed from no weight."""
        self.steps: list[Step] = []
        self.kept: list[int] = []
        self.values: dict[str, str] = {}
        """What the code names, and the weight or value of a step that it stands for."""
        self.inlined: dict[str, Any] = {}
        """Values of so few numbers that these stand in the code."""

    def __call__(self, graph: Any, inputs: Sequence[Any], **options: Any) -> Any:
        compiler: Any = import_module("torch._inductor.compile_fx")
        freezing: Any = import_module("torch._inductor.freezing")
        utilities: Any = import_module("torch._inductor.freezing_utils")
        lowering: Any = import_module("torch._inductor.graph").GraphLowering
        facts = torch._guards.TracingContext.get().fw_metadata
        if facts is None or facts.num_mutated_inp_runtime_indices or facts.num_outputs_aliased:
            raise NotTraced("it gives a part of what it is given")
        is_in_channels_last = lowering.decide_layout_opt(graph, is_inference=True)
        if is_in_channels_last:
            compiler.fake_tensor_prop(graph, inputs, True)
            freezing.convert_conv_weights_to_channels_last(graph)
        freezing.view_to_reshape(graph)
        self.kept = [index for index in range(len(inputs)) if index not in self._weights]
        inputs = [inputs[index] for index in self.kept]
        self.numbers = {node.target: getattr(graph, node.target) for node in graph.graph.find_nodes(op="get_attr")}
        with utilities.enter_freezing():
            for number in self.numbers.values():
                utilities.maybe_set_is_frozen_param(number)
            fold_weights(graph, self._weights)
            graph.graph = freezing.fx_graph_cse(graph.graph)
            graph.recompile()
            self.steps = fold(graph, [])
            _pack(graph, inputs)
            self.steps += fold(graph, self.steps)
        utilities.record_has_frozen_params(graph)
        for node in graph.graph.find_nodes(op="get_attr"):
            value = getattr(graph, node.target)
            if value.dim() <= 1 and value.numel() <= 8 and not value.is_mkldnn:
                self.inlined[node.target] = value.tolist()
        seen = graph.graph.output_node()
        seen.meta["user_visible_output_idxs"] = [
            index for index, node in enumerate(seen.args[0]) if isinstance(node, torch.fx.Node)
        ]
        options.update(static_input_idxs=[], layout_opt=is_in_channels_last)
        fake: Any = torch._guards.detect_fake_mode(inputs)
        with mock.patch.object(fake, "allow_non_fake_inputs", True):
            self.code = compiler.compile_fx_inner(graph, inputs, **options)
        self.numbers.update(self.code.constants)
        self.values = {**self.code.frozen_param_names, **{name: name for name in self.code.constants}}
        return self.code


def _pack(graph: Any, inputs: Sequence[Any]) -> None:
    """Inductor's patterns for weights that are known: packed for the processor."""
    compiler: Any = import_module("torch._inductor.compile_fx")
    patterns: Any = import_module("torch._inductor.fx_passes.freezing_patterns")
    packing: Any = import_module("torch._inductor.fx_passes.mkldnn_fusion")
    virtualized: Any = import_module("torch._inductor.virtualized")
    patterns.lazy_init()
    compiler.fake_tensor_prop(graph, inputs, True)
    # Code that is compiled for another process has no weights in MKL's order, so inductor takes oneDNN's for them.
    with virtualized.V.set_aot_compilation(are_by_onednn()):
        for patterns_of_pass in patterns.pass_patterns:
            patterns_of_pass.apply(graph.graph)
    if torch._C._has_mkldnn:
        packing._eliminate_duplicate_packed_nodes(graph)
    patterns.stable_topological_sort(graph.graph)
    graph.recompile()


def _module(code: Any) -> ModuleType:
    return sys.modules[type(code.compiled_fn_runner).__module__]


def _release(module: ModuleType) -> None:
    """Torch keeps each module of code for good, and with it the values that were made from the weights."""
    codecache: Any = import_module("torch._inductor.codecache")
    codecache.PyCodeCache.modules[:] = [one for one in codecache.PyCodeCache.modules if one is not module]
    sys.modules.pop(module.__name__, None)


def _libraries(module: ModuleType) -> Iterator[Path]:
    """The shared libraries of the kernels that compiled code calls."""
    for value in vars(module).values():
        of = getattr(getattr(value, "__self__", None), "__file__", None)
        if of and Path(of).is_relative_to(code_folder()):
            yield Path(of)


def _stated(tensor: Tensor) -> dict[str, Any]:
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else tensor.new_empty(0)
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "bytes": base64.b64encode(flat.numpy().tobytes()).decode(),
    }


def _tensor(stated: Mapping[str, Any]) -> Tensor:
    data = bytearray(base64.b64decode(stated["bytes"]))
    dtype = getattr(torch, stated["dtype"])
    return (
        torch.frombuffer(data, dtype=dtype).reshape(stated["shape"])
        if data
        else torch.empty(stated["shape"], dtype=dtype)
    )
