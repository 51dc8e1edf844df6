"""When what of a run was done, and what its passes cost, as a worker reports it."""

import json

from graphflow_server.worker.times import RunTimes

from graphflow.spi import NodeAnew, NodeDone, NodeStarted, PassesMade


def test_a_sampler_that_begins_anew_has_both_attempts_in_the_trace_and_the_shortage_in_the_costs():
    times = RunTimes()
    made = PassesMade("cpu", 10, 5.0, 0.0, {8: 10}, ratios={4: (0.5, 0.6)}, calculated={4: 0.625})
    for event in (NodeStarted("3"), made, NodeAnew("3", "too little memory"), NodeStarted("3"), NodeDone("3", 1.0)):
        times.note(event, "3")
    assert [(node, state) for node, _, _, _, state in json.loads(times.to_json())["nodes"]] == [
        ("3", "anew"),
        ("3", "done"),
    ]
    found = times.passes()
    assert found["short"] is True
    assert found["rows"] == 10
    assert found["ratios"] == {"4": [0.5, 0.6]}
    assert found["calculated"] == {"4": 0.625}
