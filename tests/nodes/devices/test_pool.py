"""Weights are held once, shared between a model and its patched forms, and dropped when others need the room."""

import time
from threading import Event, Thread

import pytest
import torch
from graphflow_nodes.devices.machine import UNKNOWN, weights_budget
from graphflow_nodes.devices.paging import page, total_bytes
from graphflow_nodes.devices.pool import Pool, default_budget

import graphflow as gf
from tests.nodes.made_up import Added, Files, Net, model

F32, BF16 = torch.float32, torch.bfloat16
A, B = model("a"), model("b")
PATCHED = A.with_patch(Added("block.weight", 0.5))
ALL = ["into.weight", "into.bias", "text.weight", "text.bias", "block.weight", "block.bias", "out.weight", "out.bias"]
BYTES = total_bytes(Net(), F32)


@pytest.fixture
def files():
    return Files()


@pytest.fixture
def events():
    return []


@pytest.fixture
def use(files, events):
    pool = Pool("cpu", files)

    def used(handle, part="denoiser", dtype=F32):
        with pool.use(handle, part, dtype, events.append) as found:
            return {name: weight.clone() for name, weight in found.module.state_dict().items()}

    used.pool = pool
    return used


def bits(state):
    return {name: weight.float().numpy().tobytes() for name, weight in state.items()}


def test_equal_weights_are_loaded_once_whatever_they_are_called(use, files):
    use(A)
    use(model("a"))
    assert files.read == ALL


def test_a_then_patched_then_a_again_has_the_bits_of_a_and_reads_only_what_was_changed(use, files):
    first, patched = use(A), use(PATCHED)
    assert files.read == [*ALL, "block.weight"], "what a patch does not touch is not read again"
    assert torch.equal(patched["block.weight"], first["block.weight"] + 0.5)
    assert bits(use(A)) == bits(first)
    assert use.pool.bytes == BYTES + first["block.weight"].nbytes, "tensors that both share are counted once"


def test_patches_are_merged_in_their_order_from_the_numbers_of_the_file_and_cast_once(use):
    one, two = Added("out.bias", 1e-3), Added("out.bias", 1e-3)
    whole = use(A, dtype=F32)["out.bias"]
    merged = use(A.with_patch(one).with_patch(two), dtype=BF16)["out.bias"]
    assert torch.equal(merged, (whole + 1e-3 + 1e-3).to(BF16))


def test_the_plain_model_comes_back_from_its_patched_form_with_one_weight_read(use, files):
    first = use(A)
    use(PATCHED)
    plain = next(part for part in use.pool.parts if part.key == use.pool.key(A, "denoiser", F32))
    use.pool._drop(plain, lambda event: None)
    files.read.clear()
    assert bits(use(A)) == bits(first)
    assert files.read == ["block.weight"]


def test_over_the_budget_what_was_used_longest_ago_is_dropped(use, files, events):
    use.pool.budget = 2 * BYTES
    use(A), use(B), use(A), use(model("c"))
    assert [(event.action, event.file) for event in events] == [
        ("loaded", "a.safetensors"),
        ("loaded", "b.safetensors"),
        ("reused", "a.safetensors"),
        ("dropped", "b.safetensors"),
        ("loaded", "c.safetensors"),
    ]
    assert use.pool.bytes == 2 * BYTES


def test_parts_take_turns_where_the_budget_is_smaller_than_all_of_them_and_keep_their_bits(use):
    use.pool.budget = BYTES
    first = [bits(use(A, part)) for part in ("denoiser", "vae")]
    for _ in range(3):
        assert [bits(use(A, part)) for part in ("denoiser", "vae")] == first
        assert use.pool.bytes == BYTES


def test_what_is_in_use_is_never_dropped(use, files):
    use.pool.budget = BYTES
    with use.pool.use(A, "denoiser", F32) as held:
        use(B)
        assert held in use.pool.parts
        assert not use.pool.free_some() or held in use.pool.parts
    assert use.pool.free_some()
    assert use.pool.parts == []


def test_a_part_that_states_its_number_format_keeps_it(use, events):
    use(A, "denoiser", BF16)
    use(A, "vae", BF16)
    assert [(event.part, event.format, event.bytes) for event in events] == [
        ("denoiser", "bfloat16", BYTES // 2),
        ("vae", "float32", BYTES),
    ]


def test_two_number_formats_of_one_file_are_two_parts(use):
    assert use(A, dtype=F32)["out.bias"].dtype is F32
    assert use(A, dtype=BF16)["out.bias"].dtype is BF16
    assert len(use.pool.parts) == 2


def test_a_network_that_is_paged_has_the_same_bits():
    from diffusers import UNet2DConditionModel

    def network():
        torch.manual_seed(0)
        return (
            UNet2DConditionModel(
                block_out_channels=(16, 32),
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                layers_per_block=1,
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                cross_attention_dim=8,
                attention_head_dim=4,
                norm_num_groups=4,
            )
            .eval()
            .requires_grad_(False)
        )

    whole, paged = network(), network()
    page(paged, torch.device("cpu"))
    asked = torch.randn(2, 4, 8, 8), torch.tensor([5.0, 7.0]), torch.randn(2, 7, 8)
    with torch.inference_mode():
        wanted = whole(*asked).sample
        for _ in range(2):
            assert torch.equal(paged(*asked).sample, wanted)


def test_a_file_that_cannot_be_loaded_leaves_nothing_behind(files):
    pool = Pool("cpu", files)
    files.load_part = lambda *_, **__: (_ for _ in ()).throw(OSError("gone"))
    with pytest.raises(OSError, match="gone"), pool.use(A, "denoiser", F32):
        pass
    assert pool.parts == [] and pool.bytes == 0


@pytest.fixture
def small(files):
    """A pool with room for one of the models."""
    return Pool("cpu", files, budget=BYTES * 3 // 2)


def holding(pool, handle, until, order, name):
    def hold():
        with pool.use(handle, "denoiser", F32):
            order.append(name)
            until.wait(60)

    thread = Thread(target=hold)
    thread.start()
    return thread


def reached(condition):
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def test_models_that_do_not_fit_beside_each_other_take_turns_and_nobody_overtakes(small):
    order, first, rest = [], Event(), Event()
    threads = [holding(small, A, first, order, "a")]
    assert reached(lambda: order == ["a"])
    threads.append(holding(small, B, rest, order, "b"))
    assert reached(lambda: len(small._line) == 1)
    threads.append(holding(small, A, rest, order, "a again"))
    assert reached(lambda: len(small._line) == 2), "it is there, but B has waited for longer"
    assert order == ["a"] and small.bytes <= small.budget
    first.set()
    assert reached(lambda: order == ["a", "b"]), order
    assert small.bytes <= small.budget
    rest.set()
    for thread in threads:
        thread.join(10)
    assert order == ["a", "b", "a again"]


def test_who_uses_a_part_already_never_waits_for_another_one(small):
    other, order = Event(), []
    with small.use(A, "denoiser", F32):
        thread = holding(small, A, other, order, "a")
        assert reached(lambda: order == ["a"]), "equal weights are no question of room"
        with small.use(B, "denoiser", F32) as found:
            assert found.users == 1
        other.set()
        thread.join(10)


def test_a_cancelled_run_stops_waiting_for_room(small):
    with small.use(A, "denoiser", F32):
        raised = []

        def wait():
            try:
                with small.use(B, "denoiser", F32, cancelled=lambda: True):
                    pass
            except gf.Cancelled:
                raised.append(True)

        thread = Thread(target=wait)
        thread.start()
        thread.join(5)
        assert raised and not small._line


def test_the_thread_of_the_device_never_waits_for_who_loads(small):
    """Who loads holds the pool, and waits for that thread; so it frees nothing rather than wait."""
    with small._lock:
        found = []
        thread = Thread(target=lambda: found.append(small.free_some()))
        thread.start()
        thread.join(5)
    assert found == [False]


def test_a_main_memory_holds_more_weights_where_it_is_larger_and_never_more_than_itself():
    giga = 1 << 30
    assert weights_budget(24 * giga) == int(24 * giga * 0.6), "SDXL in float32 (13.9 GB) stays from prompt to prompt"
    assert [weights_budget(size * giga) // giga for size in (8, 16)] == [8, 12]
    assert weights_budget(UNKNOWN) == 12 * giga


def test_the_budget_of_an_accelerator_does_not_shrink_by_what_it_holds(monkeypatch):
    """What this process has taken is free for its models; what others have is not."""
    free, own = 60 << 30, 0
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free - own, 80 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: own)
    before = default_budget(torch.device("cuda"))
    own = 40 << 30
    assert default_budget(torch.device("cuda")) == before == int(free * 0.8)
