"""The names of samplers and schedules, for choices."""

from graphflow_nodes.samplers.names import SAMPLER_NAMES as _SAMPLERS
from graphflow_nodes.samplers.names import SCHEDULE_NAMES as _SCHEDULES

SAMPLER_NAMES = list(_SAMPLERS)
SCHEDULER_NAMES = list(_SCHEDULES)


class KSampler:
    SAMPLERS = SAMPLER_NAMES
    SCHEDULERS = SCHEDULER_NAMES
