"""Values keep their bits through the store, and nobody can change a cached one."""

import math
import os
import subprocess
import sys
import threading
from collections import OrderedDict, defaultdict
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as gf
from graphflow.values import Items, Uncopyable, Unstorable, copied, decode, encode, share, size_of

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3).map(Items)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.tuples(st.integers()), inner, max_size=3)
    ),
    max_leaves=10,
)


def alike(a, b):
    """Equal in type, value and sign of zero, all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(alike(a[key], b[key]) for key in a)
    return a == b


@given(PLAIN)
def test_plain_values_come_back_as_they_were(value):
    assert alike(decode(encode(value).data), value)


@given(PLAIN, PLAIN)
def test_two_values_have_one_content_only_if_they_are_alike(a, b):
    assert (encode(a).content == encode(b).content) == alike(a, b)


def test_text_that_looks_like_a_tensor_file_comes_back():
    for size in range(12):
        text = "x" * size + "{y"
        assert decode(encode(text).data) == text


DTYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.float8_e4m3fn,
]


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 4), max_size=4),
    st.sampled_from(DTYPES),
    st.randoms(use_true_random=False),
)
def test_tensors_come_back_with_bits_type_shape_and_memory_layout(shape, dtype, random):
    value = torch.randn(shape, generator=torch.Generator().manual_seed(random.randrange(1000))).mul(9).to(dtype)
    order = list(range(len(shape)))
    random.shuffle(order)
    value = value.permute(order)
    found = decode(encode({"x": [value, 1]}).data)["x"][0]
    assert found.dtype is value.dtype and found.shape == value.shape
    assert bytes(found.contiguous().untyped_storage()) == bytes(
        value.clone(memory_format=torch.contiguous_format).untyped_storage()
    )
    if value.numel() > 1 and 1 not in shape:
        assert found.stride() == value.stride()


def test_slices_broadcasts_negated_views_and_gradients_come_back_as_plain_numbers():
    whole = torch.arange(24.0).reshape(4, 6)
    numbers = torch.view_as_complex(torch.rand(3, 2)).conj().imag
    assert numbers.is_neg()
    for value in (
        whole[1:3, ::2],
        whole[:1].expand(5, 6),
        numbers,
        torch.zeros(0, 4),
        torch.ones(2, requires_grad=True),
    ):
        found = decode(encode(value).data)
        assert torch.equal(found, value.detach()) and not found.requires_grad


def test_equal_values_have_equal_content_in_every_process():
    code = (
        "import torch; from graphflow.values import encode;"
        "value = {'samples': torch.arange(24.).reshape(2,3,4).movedim(0,2), 'b': torch.zeros(3), 'c': [1]};"
        "print(encode(value).content.hex())"
    )
    found = {subprocess.check_output([sys.executable, "-c", code]) for _ in range(2)}
    assert len(found) == 1


def test_what_would_not_come_back_the_same_is_not_stored():
    class Subclass(torch.Tensor):
        pass

    values = [
        torch.nn.Parameter(torch.ones(2)),
        torch.ones(2).as_subclass(Subclass),
        torch.eye(3).to_sparse(),
        torch.zeros(2, dtype=torch.complex64),
        torch.empty(3, device="meta"),
        torch.empty(4, dtype=torch.int3),
        torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        torch.ones(4).to(torch.float8_e8m0fnu),
        np.array([object()]),
        np.bytes_(b"a\0"),
        np.zeros(2, dtype=[("a", "f4")]),
        np.ma.zeros(3),
        object(),
        {torch.ones(1)},
        defaultdict(int),
        [[open]],
    ]
    for value in values:
        with pytest.raises(Unstorable):
            encode({"a": [value]})


RARE = [
    {1, "a", (2, 3)},
    frozenset({1.5, None}),
    1 - 2j,
    complex(math.inf, -0.0),
    Path("a/b.png"),
    range(2, 9, 3),
    bytearray(b"ab"),
    OrderedDict(b=1, a=[2]),
    {"deep": [{"x": (1, {2})}]},
]


@pytest.mark.parametrize("value", RARE, ids=lambda value: type(value).__name__)
def test_sets_paths_and_other_rare_plain_values_come_back_as_they_were(value):
    found = decode(encode(value).data)
    assert type(found) is type(value) and found == value and repr(found) == repr(decode(encode(found).data))
    assert encode(found).content == encode(value).content


def test_a_set_has_one_content_in_every_process():
    code = "from graphflow.values import encode; print(encode({'red', 'green', 'blue', 'x', 'y'}).content.hex())"
    found = {
        subprocess.check_output([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in "123"
    }
    assert len(found) == 1


KINDS = ["f8", "f4", "f2", "i8", "u2", "?", "c16", ">i4", "U5", "S3", "M8[s]", "m8[ns]", "U0"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (0,), (4,), (2, 3, 4)])
def test_numpy_arrays_and_scalars_come_back_with_type_shape_bits_and_memory_layout(kind, shape):
    plain = np.arange(math.prod(shape)).reshape(shape).astype("i8").astype(kind)
    for value in (plain, plain.T, np.asfortranarray(plain), plain[..., ::2] if plain.ndim else plain):
        found = decode(encode({"x": [value, 1]}).data)["x"][0]
        assert type(found) is np.ndarray and found.dtype == value.dtype and found.shape == value.shape
        assert found.tobytes() == value.tobytes() and found.flags.writeable
        assert found.strides == value.copy(order="K").strides or found.size < 2
    if not shape:
        found = decode(encode(plain[()]).data)
        assert type(found) is type(plain[()]) and found.tobytes() == plain[()].tobytes()


def test_a_nan_and_a_negative_zero_of_numpy_come_back():
    found = decode(encode([np.float64("nan"), np.float32(-0.0), np.array([np.nan, -0.0])]).data)
    assert np.isnan(found[0]) and math.copysign(1, found[1]) == -1 and math.copysign(1, found[2][1]) == -1
    assert type(found[0]) is np.float64 and type(found[1]) is np.float32


def test_arrays_and_tensors_in_one_value_come_back_together():
    value = {
        "a": np.arange(6.0).reshape(2, 3).T,
        "t": torch.ones(2),
        "s": np.float32(2.5),
        "b": [np.array(["x", "yz"])],
    }
    found = decode(encode(value).data)
    assert np.array_equal(found["a"], value["a"]) and found["a"].strides == value["a"].strides
    assert torch.equal(found["t"], value["t"]) and found["s"] == 2.5 and list(found["b"][0]) == ["x", "yz"]
    other = {**value, "a": value["a"].astype("f4")}
    assert encode(other).content != encode(value).content


def test_arrays_are_read_without_torch():
    code = (
        "import sys, numpy as np; from graphflow.values import encode, decode;"
        "assert decode(encode([np.ones(3), np.float64(2)]).data)[0].sum() == 3; assert 'torch' not in sys.modules"
    )
    subprocess.check_call([sys.executable, "-c", code])


ODD = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "compressed": lambda: torch.eye(3).to_sparse_csr(),
    "meta": lambda: torch.empty(3, device="meta"),
    "small": lambda: torch.empty(4, dtype=torch.uint4),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "bits": lambda: torch.empty(4, dtype=torch.bits8),
    "scale": lambda: torch.ones(4).to(torch.float8_e8m0fnu),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ODD)
def test_a_tensor_of_an_odd_kind_does_not_fail_a_node_because_there_is_a_cache(name, graph, tmp_path):
    @gf.node("Make", version="1")
    def make() -> gf.AnyType:
        return [ODD[name]()]

    @gf.node("Look", version="1", output=True)
    def look(value: gf.AnyType, k: int = 0) -> gf.Ui:
        return gf.Ui({"kind": [str(value[0].dtype), str(value[0].layout)]})

    shown = []
    for cache in (gf.Cache(memory=0), gf.Cache(), gf.Cache(tmp_path), gf.Cache(tmp_path)):
        with gf.Engine(gf.Registry([make, look]), cache=cache) as engine:
            for k in (len(shown), len(shown) + 1):
                shown.append(engine.run(graph(m=("Make", {}), o=("Look", {"value": "@m", "k": k})))["o"].ui)
            assert not cache.problems
    assert all(item == shown[0] for item in shown)


def test_an_object_that_breaks_when_it_is_looked_at_does_not_fail_a_node_because_there_is_a_cache(graph, tmp_path):
    class Broken:
        @property
        def nbytes(self):
            raise RuntimeError("no")

    @gf.node("Make", version="1")
    def make() -> gf.AnyType:
        return [Broken()]

    @gf.node("Look", version="1", output=True)
    def look(value: gf.AnyType) -> gf.Ui:
        return gf.Ui({})

    with gf.Engine(gf.Registry([make, look]), cache=gf.Cache(tmp_path)) as engine:
        engine.run(graph(m=("Make", {}), o=("Look", {"value": "@m"})))


def test_a_result_of_numpy_is_a_hit_in_the_next_process(graph, tmp_path, calls):
    @gf.node("Mean", version="1")
    def mean() -> gf.AnyType:
        calls["Mean"] += 1
        return {"all": np.ones((4, 4)), "mean": np.float64(2.5), "seen": {1, 2}}

    @gf.node("Look", version="1", output=True)
    def look(value: gf.AnyType, k: int = 0) -> gf.Ui:
        return gf.Ui({"value": [repr(value)]})

    shown = set()
    for k in range(3):
        with gf.Engine(gf.Registry([mean, look]), cache=gf.Cache(tmp_path)) as engine:
            shown.add(engine.run(graph(m=("Mean", {}), o=("Look", {"value": "@m", "k": k})))["o"].ui["value"][0])
    assert calls == {"Mean": 1} and len(shown) == 1


def deep_list():
    value = []
    for _ in range(5000):
        value = [value]
    return value


def test_a_value_nested_too_deeply_is_not_stored_and_not_copied_and_nothing_breaks(graph, registry, calls):
    value = deep_list()
    with pytest.raises(Unstorable):
        encode(value)
    with pytest.raises(Uncopyable):
        copied(value)
    assert share(value) is value


# -- nobody can change a cached value -------------------------------------------------------------------------------


class Color(Enum):
    RED = 1


class Holder:
    def __init__(self):
        self.numbers = [1, 2]
        self.tensor = torch.zeros(4)
        self.array = np.zeros(4)
        self.inner = {"deep": {"list": [torch.zeros(2)]}}
        self.model = torch.nn.Linear(2, 2)


def resize_numpy(t):
    t.numpy().fill(7)


WRITES = {
    "in place": lambda t: t.add_(1),
    "an item": lambda t: t.__setitem__(0, 9.0),
    "a view": lambda t: t.view(2, 2)[0].fill_(3),
    "a view of a view": lambda t: t[1:].unsqueeze(0).transpose(0, 1)[0].mul_(5).add_(1),
    "out=": lambda t: torch.add(t, 1, out=t),
    ".data": lambda t: t.data.add_(1),
    "numpy": resize_numpy,
    "numpy view": lambda t: np.asarray(t)[1:].fill(3),
    "dlpack": lambda t: torch.from_dlpack(t).fill_(2),
    "numpy dlpack": lambda t: (
        torch.from_numpy(np.from_dlpack(t)).fill_(2) if np.from_dlpack(t).flags.writeable else None
    ),
    "storage": lambda t: t.untyped_storage().fill_(255),
    "copy_": lambda t: t.copy_(torch.ones(4)),
    "index_put_": lambda t: t.index_put_((torch.tensor([0]),), torch.tensor([4.0])),
    "foreach": lambda t: torch._foreach_add_([t], 1),
    "set_": lambda t: torch.empty(0).set_(t).fill_(8),
    "random": lambda t: t.normal_(),
    "shared memory": lambda t: t.share_memory_().fill_(1),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_tensor_that_was_handed_out_cannot_be_used_to_change_the_cached_one(name):
    for cached in (
        copied(torch.zeros(4)),
        decode(encode(torch.zeros(4)).data),
        copied(torch.from_numpy(np.zeros(4, np.float32))),
    ):
        first, second = share(cached), share(cached)
        WRITES[name](first)
        assert torch.equal(cached, torch.zeros(4)) and torch.equal(second, torch.zeros(4))
        WRITES[name](second)
        assert torch.equal(share(cached), torch.zeros(4))


def test_what_a_node_does_to_its_own_tensor_later_does_not_reach_the_cache():
    mine = torch.zeros(4)
    kept = copied({"x": mine})
    mine.add_(1)
    assert torch.equal(kept["x"], torch.zeros(4)) and torch.equal(mine, torch.ones(4))


def test_lists_dicts_and_objects_of_any_class_are_copied_down_to_the_bottom():
    value = {
        "list": [[1], {"x": (1, [2])}],
        "object": Holder(),
        "array": np.zeros(3),
        "set": {1},
        "bytes": bytearray(b"ab"),
    }
    given_out = share(value)
    given_out["list"][0].append(2)
    given_out["list"][1]["x"][1].append(3)
    given_out["object"].numbers.append(3)
    given_out["object"].tensor.fill_(1)
    given_out["object"].array.fill(1)
    given_out["object"].inner["deep"]["list"][0].fill_(1)
    with torch.no_grad():
        given_out["object"].model.weight.fill_(1)
    given_out["array"].fill(1)
    given_out["set"].add(2)
    given_out["bytes"].append(1)
    assert value["list"] == [[1], {"x": (1, [2])}] and value["set"] == {1} and value["bytes"] == bytearray(b"ab")
    held = value["object"]
    assert held.numbers == [1, 2] and not held.array.any() and not held.tensor.any() and not value["array"].any()
    assert not held.inner["deep"]["list"][0].any() and not bool((held.model.weight == 1).all())


def test_a_copied_model_shares_its_weights_until_somebody_writes():
    model = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.Linear(300, 300))
    other = copied({"m": model})["m"]
    assert isinstance(other[0].weight, torch.nn.Parameter) and other[0].weight.requires_grad
    one = size_of([model])
    assert size_of([model, other]) - one < 50_000 < one


def test_what_cannot_change_is_not_copied():
    class Name(gf.Handle):
        def identity(self):
            return "x"

    for value in (Color.RED, Name(), "text", 3, None, print, Holder, (1, "x").__class__):
        assert share(value) is value


@pytest.fixture
def engine(calls):
    @gf.node("Values", version="1")
    def values(kind: str = "list") -> gf.AnyType:
        """Gives something that could be written into."""
        calls["Values"] += 1
        made = {
            "list": [1],
            "nested": {"a": [{"b": [1]}]},
            "tensor": torch.ones(3),
            "latent": {"samples": torch.ones(3)},
            "object": Holder(),
            "array": np.ones(3),
        }
        return made[kind]

    @gf.node("Vandal", version="1")
    def vandal(value: gf.AnyType, run: int = 0) -> str:
        """Writes into whatever it gets."""
        calls["Vandal"] += 1
        before = repr(value if not isinstance(value, Holder) else value.numbers)
        if isinstance(value, list):
            value.append(9)
        elif isinstance(value, torch.Tensor):
            value.zero_()
        elif isinstance(value, np.ndarray):
            value.fill(0)
        elif isinstance(value, Holder):
            value.numbers.append(9)
        elif "samples" in value:
            value["samples"].numpy().fill(0)
            value["new"] = 1
        else:
            value["a"][0]["b"].append(9)
        return before

    @gf.node("Look", version="1", output=True)
    def look(value: gf.AnyType) -> gf.Ui:
        return gf.Ui({"value": [value]})

    with gf.Engine(gf.Registry([values, vandal, look])) as engine:
        yield engine


@pytest.mark.parametrize("kind", ["list", "nested", "tensor", "latent", "object", "array"])
def test_a_node_that_writes_into_its_input_changes_neither_the_cache_nor_its_neighbours(engine, graph, calls, kind):
    shown = set()
    for run in range(3):
        result = engine.run(
            graph(
                v=("Values", {"kind": kind}),
                a=("Vandal", {"value": "@v", "run": run}),
                b=("Vandal", {"value": "@v", "run": run + 100}),
                one=("Look", {"value": "@a"}),
                two=("Look", {"value": "@b"}),
            )
        )
        shown |= {result["one"].ui["value"][0], result["two"].ui["value"][0]}
    assert len(shown) == 1 and calls == {"Values": 1, "Vandal": 6}


def test_what_a_caller_does_to_a_result_does_not_change_the_next_result(registry, graph):
    with gf.Engine(registry) as engine:
        workflow = graph(t=("Tensor", {"size": 4}), o=("Show", {"value": "@t"}))
        first = engine.run(workflow, targets=["t", "o"])
        first["o"].ui["value"].append("mine")
        tensor = next(iter(first["t"].outputs.values()))["samples"]
        kept = tensor.clone()
        tensor.fill_(0)
        again = engine.run(workflow, targets=["t", "o"])
        assert len(again["o"].ui["value"]) == 1
        assert torch.equal(next(iter(again["t"].outputs.values()))["samples"], kept)


def test_an_object_that_cannot_be_copied_lives_in_its_run_only(graph, calls):
    @gf.node("Lock", version="1")
    def lock() -> gf.AnyType:
        calls["Lock"] += 1
        return [threading.Lock()]

    @gf.node("Use", version="1", output=True)
    def use(value: gf.AnyType) -> gf.Ui:
        calls["Use"] += 1
        assert isinstance(value[0], type(threading.Lock()))
        return gf.Ui({})

    with gf.Engine(gf.Registry([lock, use])) as engine:
        for _ in range(2):
            engine.run(graph(x=("Lock", {}), o=("Use", {"value": "@x"})), targets=["o", "x"])
    assert calls["Lock"] == 2


def test_many_threads_may_take_one_cached_tensor_and_write(registry):
    cached = decode(encode(torch.zeros(1000)).data)
    wrong = []

    def work(number):
        for _ in range(200):
            mine = share(cached)
            mine.add_(number)
            if not bool((mine == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and not cached.any()
