// Numbers and times in words.

export const plural = (count, one, many = one + "s") => count + " " + (count === 1 ? one : many);

/** "2.4 s", "31 s", "2 min 5 s", "1 h 3 min". */
export function duration(seconds) {
  if (seconds < 0.05) return "under 0.1 s";
  if (seconds < 10) return seconds.toFixed(1) + " s";
  if (seconds < 100) return Math.round(seconds) + " s";
  const minutes = Math.floor(seconds / 60);
  return minutes < 60
    ? minutes + " min " + Math.round(seconds % 60) + " s"
    : Math.floor(minutes / 60) + " h " + (minutes % 60) + " min";
}

/** "14 s left" needs no tenths. */
export const rough = seconds =>
  seconds < 1
    ? "1 s"
    : duration(Math.max(10, seconds) === seconds ? seconds : Math.round(seconds)).replace(".0 s", " s");

/** "0:31". */
export function elapsed(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const rest = String(whole % 60).padStart(2, "0");
  return whole < 3600
    ? Math.floor(whole / 60) + ":" + rest
    : Math.floor(whole / 3600) + ":" + String(Math.floor(whole / 60) % 60).padStart(2, "0") + ":" + rest;
}

export const clock = time => new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

const midnight = time => new Date(time).setHours(0, 0, 0, 0);

/** Whole days between a time and today. */
const daysAgo = time => Math.round((midnight(Date.now()) - midnight(time)) / 86400000);

/** "Today", "Yesterday", or the date. */
export function day(time) {
  const days = daysAgo(time);
  return days <= 0 ? "Today" : days === 1 ? "Yesterday" : new Date(time).toLocaleDateString([], { dateStyle: "long" });
}

/** "2 min ago", "yesterday", or the date. */
export function ago(time) {
  const minutes = Math.floor((Date.now() - time) / 60000),
    days = daysAgo(time);
  if (minutes < 1) return "just now";
  if (minutes < 60) return minutes + " min ago";
  if (days <= 0) return Math.floor(minutes / 60) + " h ago";
  return days === 1 ? "yesterday" : new Date(time).toLocaleDateString();
}

/** "14:02", "yesterday 18:20", "3 March 18:20". */
export function when(time) {
  const days = daysAgo(time);
  const before =
    days <= 0
      ? ""
      : days === 1
        ? "yesterday "
        : new Date(time).toLocaleDateString([], { day: "numeric", month: "long" }) + " ";
  return before + clock(time);
}

/** "2.1 GB", "335 MB". */
export function bytes(count) {
  if (count >= 1e9) return (count / 1e9).toFixed(1) + " GB";
  return count >= 1e6 ? Math.round(count / 1e6) + " MB" : Math.max(1, Math.round(count / 1e3)) + " kB";
}

export const size = summary => (summary.width && summary.height ? summary.width + " × " + summary.height : null);

/** What a prompt is called: its text, else its workflow. */
export const nameOf = job => job.summary?.text || job.summary?.workflow || "Prompt " + job.id.slice(0, 8);
