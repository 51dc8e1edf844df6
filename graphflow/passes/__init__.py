"""How many runs share forward passes: decided when a run begins, by what passes were measured to cost.

likeness   which runs may share passes
choice     the decision, a function of what is at hand and of the costs
costs      the measured and calculated costs, in SQLite
store      a file of costs, and of what was decided for which work
shortage   whether something failed for lack of memory
tally      what one run's passes cost
admission  all of it, for the runs of an engine
sharing    the same for workflows that run at a time
"""
