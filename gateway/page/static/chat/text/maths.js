// TeX in Markdown: $..$ and \(..\) within a line, $$..$$ and \[..\] displayed, in the middle of a
// paragraph too. Never in code, and nothing of the text around it is lost.

const DELIMITERS = [
  { open: "$$", close: "$$", display: true },
  { open: "\\[", close: "\\]", display: true },
  { open: "\\(", close: "\\)", display: false },
  { open: "$", close: "$", display: false },
];
const SENTENCE_ENDS = /^[.,;:!?\s]*$/;
const LONGEST = 10_000; // characters; nothing longer is looked for, from any of many beginnings

// A plugin of markdown-it. `render(tex, display)` gives the markup.
export function maths(markdown, render) {
  const around = { alt: ["paragraph", "reference", "blockquote", "list"] };
  markdown.inline.ruler.before("escape", "maths", inText);
  markdown.block.ruler.before("fence", "maths", onLines, around);
  markdown.renderer.rules.maths = (tokens, at) => {
    const { content, meta, block } = tokens[at];
    const made = render(content, meta.display);
    return block ? `<p>${made}</p>\n` : made;
  };
}

function inText(state, silent) {
  const { src, pos, posMax } = state;
  const found = DELIMITERS.find(({ open }) => src.startsWith(open, pos));
  if (!found) return false;
  const begin = pos + found.open.length;
  const rest = src.slice(begin, Math.min(posMax, begin + LONGEST));
  const end = endOf(rest, found.close);
  const tex = rest.slice(0, end);
  if (end < 0 || !isTex(tex)) return false;
  const after = begin + end + found.close.length;
  if (found.open[0] === "$" && isMoney(found, src[pos - 1], tex, src[after])) return false;
  if (!silent) push(state, tex, found.display);
  state.pos = after;
  return true;
}

// What stands on lines of its own: TeX begins some with what would be a list or a heading.
function onLines(state, first, last, silent) {
  const found = DELIMITERS.find(({ open, display }) => display && state.src.startsWith(open, beginOf(state, first)));
  if (!found) return false;
  const tex = [];
  for (let line = first; line < last; line += 1) {
    if (line > first && isOutside(state, line, found)) return false;
    const begin = beginOf(state, line) + (line === first ? found.open.length : 0);
    const text = state.src.slice(begin, state.eMarks[line]);
    const end = endOf(text, found.close);
    tex.push(end < 0 ? text : text.slice(0, end));
    if (end < 0) continue;
    const after = text.slice(end + found.close.length);
    const whole = tex.join("\n");
    if (!SENTENCE_ENDS.test(after) || !isTex(whole)) return false;
    if (silent) return true;
    state.line = line + 1;
    const token = push(state, whole + after.trim(), true);
    token.block = true;
    token.map = [first, state.line];
    return true;
  }
  return false;
}

function push(state, tex, display) {
  const token = state.push("maths", "", 0);
  token.content = tex;
  token.meta = { display };
  return token;
}

function beginOf(state, line) {
  return state.bMarks[line] + state.tShift[line];
}

// Whether a line is no longer of the list or the quotation, or begins anew.
function isOutside(state, line, { open, close }) {
  if (state.isEmpty(line)) return false;
  return state.sCount[line] < state.blkIndent || (open !== close && state.src.startsWith(open, beginOf(state, line)));
}

// Two backslashes are TeX's own, whatever follows.
function endOf(text, close) {
  for (let at = text.indexOf(close); at >= 0; at = text.indexOf(close, at + 1)) {
    let before = at;
    while (before > 0 && text[before - 1] === "\\") before -= 1;
    if ((at - before) % 2 === 0) return at;
  }
  return -1;
}

function isTex(text) {
  return text.trim() !== "" && !text.includes("`");
}

// Between two dollars, with what stands before and after them.
function isMoney({ display }, before = "", tex, after = "") {
  if (/[\d$]/.test(before) || after === "$") return true;
  return !display && (/^\s|\s$|\n/.test(tex) || /\d/.test(after));
}
