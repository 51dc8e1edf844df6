// When what waits begins and ends, where so many prompts run at a time as are at work now. Pure.

/**
 * `{starts, end}` in seconds from now: `starts` by the id of each job, `end` that of the last one; null where a time is
 * not known. `left` is how long each prompt at work still takes (null: not known); it is null where nothing begins.
 * A job begins where a place is free first, in the order of the queue.
 */
export function startsOf(jobs, left) {
  const starts = new Map();
  const places = left === null ? [null] : left.length ? [...left] : [0];
  for (const job of jobs) {
    const start = places.includes(null) ? null : Math.min(...places);
    starts.set(job.id, start);
    places[places.indexOf(start)] = start === null ? null : after(start, job);
  }
  return { starts, end: places.includes(null) ? null : Math.max(...places) };
}

const after = (start, job) => (job.expected_seconds === undefined ? null : start + job.expected_seconds);
