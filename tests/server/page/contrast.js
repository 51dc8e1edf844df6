// What is hard to see or to hit on the page, or in the dialog that is open: [what, text, measured, needed].
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map((value) => value / 255);
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const luminance = (colour) => {
    const [r, g, b] = colour.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  };
  const chain = (element) => (element ? [element, ...chain(element.parentElement)] : []);
  const opacity = (element) => chain(element).reduce((all, each) => all * getComputedStyle(each).opacity, 1);
  /** The colour behind an element; null where it is an image. */
  const behind = (element) => {
    let found = [1, 1, 1, 1];
    for (const each of chain(element).reverse()) {
      const style = getComputedStyle(each);
      if (style.backgroundImage !== "none") return null;
      found = over(rgba(style.backgroundColor), found);
    }
    return found;
  };
  const found = [];
  const root = document.querySelector("dialog[open]") || document.body;
  for (const element of root.querySelectorAll("*")) {
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const style = getComputedStyle(element);
    const words = String(element.innerText || element.value || element.title || "").trim().slice(0, 40);
    const isField = element.matches("input:not([type=checkbox],[type=radio],[type=file],[type=hidden]), textarea, select");
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const back = hasText || isField ? behind(element) : null;
    if (back && !element.closest(":disabled")) {
      const ink = rgba(style.color);
      ink[3] *= opacity(element);
      const size = parseFloat(style.fontSize);
      const needed = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
      const seen = ratio(over(ink, back), back);
      if (seen < needed - 0.005) found.push(["text", words, +seen.toFixed(2), needed]);
    }
    if (isField && parseFloat(style.borderTopWidth)) {
      const around = behind(element.parentElement);
      const seen = ratio(over(rgba(style.borderTopColor), around), around);
      if (seen < 2.995) found.push(["edge", words, +seen.toFixed(2), 3]);
    }
    const box = element.getBoundingClientRect();
    const smallest = innerWidth < 640 ? 44 : 24;
    const isTarget = element.matches("button, a[href], input, select, textarea, summary");
    const isWithLabel = element.matches("[type=checkbox], [type=radio], [type=file]");
    if (isTarget && !isWithLabel && box.width && Math.min(box.width, box.height) < smallest - 0.6)
      found.push(["target", words, Math.round(Math.min(box.width, box.height)), smallest]);
  }
  return found;
})();
