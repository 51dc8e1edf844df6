// JSON whose whole numbers stay exact: seeds go up to 2^64, and a double holds 2^53.

const isLarge = value => typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);

/** As JSON.parse, with a BigInt for each whole number that is too large for a double. */
export const parse = text =>
  JSON.parse(text, (_, value, context) =>
    isLarge(value) && /^-?\d+$/.test(context?.source ?? "") ? BigInt(context.source) : value,
  );

/** As JSON.stringify, with each BigInt as a number. */
export const stringify = (value, space) =>
  JSON.stringify(
    value,
    (_, item) => (typeof item === "bigint" ? (JSON.rawJSON ? JSON.rawJSON(item.toString()) : Number(item)) : item),
    space,
  );

/** The number that a person has typed; null where it is none. */
export function typedNumber(text) {
  const word = text.trim();
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(word)) return null;
  const value = Number(word);
  return /^[+-]?\d+$/.test(word) && !Number.isSafeInteger(value) ? BigInt(word) : value;
}
