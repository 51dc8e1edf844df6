// How far the whole of a running workflow is. Pure: it is given the job and what its nodes have reported.

/** The nodes that the targets need, in an order in which they can run. */
export function needed(workflow, targets) {
  const order = [],
    seen = new Set();
  const visit = start => {
    // A stack instead of recursion: a chain of nodes may be long.
    const stack = [[start, false]];
    while (stack.length) {
      const [node, left] = stack.pop();
      if (left) {
        order.push(node);
        continue;
      }
      if (seen.has(node) || !workflow[node]) continue;
      seen.add(node);
      stack.push([node, true]);
      const links = Object.values(workflow[node].inputs ?? {}).filter(
        value => Array.isArray(value) && value.length === 2 && typeof value[0] === "string",
      );
      for (const [from] of links.reverse()) stack.push([from, false]);
    }
  };
  (targets.length ? targets : Object.keys(workflow)).forEach(visit);
  return order;
}

/**
 * `{share, done, cached, total, left}`: the share from 0 to 1, nodes that are done (cached ones among them), and the
 * seconds that are left, or null. `states` has `{state, value, max}` by node; `expected` seconds by node, from earlier
 * runs.
 */
export function overall(nodes, cached, states, expected) {
  const part = node => {
    if (cached.has(node)) return 1;
    const at = states.get(node);
    return !at ? 0 : at.state === "running" ? (at.max > 1 ? at.value / at.max : 0) : 1;
  };
  const todo = nodes.filter(node => !cached.has(node));
  const parts = new Map(nodes.map(node => [node, part(node)]));
  const done = nodes.filter(node => parts.get(node) === 1).length;
  const counted = { done, cached: nodes.length - todo.length, total: nodes.length };
  if (!todo.length) return { ...counted, share: 1, left: 0 };
  const isKnown = todo.every(node => expected[node] !== undefined || parts.get(node) === 1);
  // Without earlier runs each node counts the same, and nothing is said of the time.
  const weight = node => (isKnown ? (expected[node] ?? 0) : 1);
  const all = todo.reduce((sum, node) => sum + weight(node), 0);
  const left = todo.reduce((sum, node) => sum + weight(node) * (1 - parts.get(node)), 0);
  return { ...counted, share: all > 0 ? 1 - left / all : done / nodes.length, left: isKnown ? left : null };
}
