// Markdown of a model's answer as a tree, and the tree as DOM nodes. Text becomes text nodes and nothing else: there is
// no way by which HTML in an answer could become elements, and an address is only followed where it is http, https or
// mailto. Pictures are never loaded; their text is shown.

const DEEPEST = 8;
const LIST = /^(\s{0,12})([-*+]|\d{1,9}[.)])\s+(.*)$/;
const FENCE = /^\s{0,3}(`{3,}|~{3,})\s*([\w+#.-]*)\s*.*$/;
const RULE = /^\s{0,3}([-*_])(?:\s*\1){2,}\s*$/;
const HEAD = /^\s{0,3}(#{1,6})\s+(.+?)\s*#*\s*$/;
const JSON_TEXT = /^\s*(\{\s*"|\[\s*[{"])/;
const DIVIDER = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

/** The blocks of a text: {kind: "p" | "h" | "code" | "quote" | "list" | "table" | "rule", …}. */
export function parse(text, depth = 0) {
  const lines = text.replace(/\r\n?/g, '\n').split('\n');
  const blocks = [];
  for (let at = 0; at < lines.length; ) {
    const line = lines[at];
    const found =
      (line.trim() === '' && { next: at + 1 }) ||
      fenced(lines, at) ||
      (RULE.test(line) && { block: { kind: 'rule' }, next: at + 1 }) ||
      heading(line, at) ||
      table(lines, at) ||
      (depth < DEEPEST && (quoted(lines, at, depth) || listed(lines, at, depth))) ||
      paragraph(lines, at);
    if (found.block) blocks.push(found.block);
    at = found.next;
  }
  return blocks;
}

function fenced(lines, at) {
  const open = FENCE.exec(lines[at]);
  if (!open || (open[1][0] === '`' && lines[at].replace(open[1], '').includes('`'))) return null;
  let end = at + 1;
  const closes = (line) => line.trim().startsWith(open[1]) && !line.trim().replaceAll(open[1][0], '');
  while (end < lines.length && !closes(lines[end])) end++;
  return { block: { kind: 'code', language: open[2], text: lines.slice(at + 1, end).join('\n') }, next: end + 1 };
}

function heading(line, at) {
  const found = HEAD.exec(line);
  return found && { block: { kind: 'h', level: found[1].length, inside: inline(found[2]) }, next: at + 1 };
}

function table(lines, at) {
  if (!lines[at].includes('|') || at + 1 >= lines.length || !DIVIDER.test(lines[at + 1])) return null;
  if (!lines[at + 1].includes('-') || cells(lines[at]).length !== cells(lines[at + 1]).length) return null;
  let end = at + 2;
  while (end < lines.length && lines[end].includes('|') && lines[end].trim()) end++;
  const rows = lines.slice(at + 2, end).map((line) => cells(line).map((cell) => inline(cell)));
  return { block: { kind: 'table', head: cells(lines[at]).map((cell) => inline(cell)), rows }, next: end };
}

const cells = (line) =>
  line.trim().replace(/^\||(?<!\\)\|$/g, '').split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'));

function quoted(lines, at, depth) {
  if (!/^\s{0,3}>/.test(lines[at])) return null;
  let end = at;
  while (end < lines.length && /^\s{0,3}>/.test(lines[end])) end++;
  const inside = lines.slice(at, end).map((line) => line.replace(/^\s{0,3}> ?/, ''));
  return { block: { kind: 'quote', blocks: parse(inside.join('\n'), depth + 1) }, next: end };
}

function listed(lines, at, depth) {
  const first = LIST.exec(lines[at]);
  if (!first) return null;
  const margin = first[1].length;
  const ordered = /\d/.test(first[2]);
  const items = [];
  let end = at;
  for (; end < lines.length; end++) {
    const line = lines[end];
    const item = LIST.exec(line);
    const indent = line.length - line.trimStart().length;
    if (item && indent >= margin && indent < margin + 2) {
      if (/\d/.test(item[2]) !== ordered) break;
      items.push([item[3]]);
    } else if (line.trim() === '') {
      const next = lines[end + 1] ?? '';
      if (!next.trim() || !(LIST.test(next) || next.startsWith(' '.repeat(margin + 2)))) break;
      items.at(-1).push('');
    } else if (indent >= margin + 2 || (!starts(line) && items.at(-1).at(-1) !== '')) {
      items.at(-1).push(line.slice(Math.min(indent, margin + first[2].length + 1)));
    } else {
      break;
    }
  }
  const block = { kind: 'list', ordered, start: ordered ? parseInt(first[2], 10) : 1 };
  return { block: { ...block, items: items.map((item) => parse(item.join('\n'), depth + 1)) }, next: end };
}

const starts = (line) => FENCE.test(line) || HEAD.test(line) || RULE.test(line) || /^\s{0,3}>/.test(line) || LIST.test(line);

function paragraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !starts(lines[end]) && !table(lines, end)) end++;
  const text = lines.slice(at, end).map((line) => line.trim()).join('\n');
  return { block: { kind: 'p', inside: inline(text) }, next: end };
}

const MARKS = /\\[\\`*_{}[\]()#+\-.!|~<>]|`+|!?\[|\*\*|__|~~|\*|_|<?https?:\/\/|\n/g;
const WRAPS = { '**': 'strong', __: 'strong', '*': 'em', _: 'em', '~~': 'del' };
const WORD = /[\p{L}\p{N}]/u;

/** The inline content of a text: strings and {kind: "code" | "strong" | "em" | "del" | "a" | "br", …}. */
export function inline(text, depth = 0) {
  const found = [];
  let plain = '';
  const push = (node) => {
    if (plain) found.push(plain);
    plain = '';
    found.push(node);
  };
  let at = 0;
  while (at < text.length) {
    MARKS.lastIndex = at;
    const mark = MARKS.exec(text);
    if (!mark) break;
    plain += text.slice(at, mark.index);
    const read = depth < DEEPEST && node(text, mark.index, mark[0], depth);
    if (read) {
      if (read.node !== undefined) push(read.node);
      else plain += read.text;
      at = read.next;
    } else {
      plain += mark[0];
      at = mark.index + mark[0].length;
    }
  }
  plain += text.slice(at);
  if (plain) found.push(plain);
  return found;
}

function node(text, at, mark, depth) {
  const after = at + mark.length;
  if (mark[0] === '\\') return { text: mark[1], next: after };
  if (mark === '\n') return { node: { kind: 'br' }, next: after };
  if (mark[0] === '`') {
    const end = text.indexOf(mark, after);
    return end > 0 && { node: { kind: 'code', text: text.slice(after, end).trim() }, next: end + mark.length };
  }
  if (mark.endsWith('[')) return linked(text, after, mark[0] === '!', depth);
  if (mark.includes('://')) return bare(text, at, mark);
  return wrapped(text, at, mark, depth);
}

function linked(text, after, picture, depth) {
  const found = /^([^\[\]\n]{0,500})\]\(\s*<?([^\s<>()]{0,2000}(?:\([^\s()]{0,500}\))?[^\s<>()]{0,500})>?(?:\s+"[^"\n]{0,500}")?\s*\)/.exec(
    text.slice(after, after + 4000),
  );
  if (!found) return null;
  const next = after + found[0].length;
  const inside = inline(found[1], depth + 1);
  const href = address(found[2]);
  if (picture || !href) return { text: found[1], next };
  return { node: { kind: 'a', href, inside }, next };
}

function bare(text, at, mark) {
  const begin = mark[0] === '<' ? at + 1 : at;
  const found = /^https?:\/\/[^\s<>"'`]{1,2000}/.exec(text.slice(begin, begin + 2000))?.[0].replace(/[.,;:!?)\]*_]+$/, '');
  const href = found && address(found);
  if (!href) return null;
  const end = begin + found.length;
  return { node: { kind: 'a', href, inside: [found] }, next: mark[0] === '<' && text[end] === '>' ? end + 1 : end };
}

function wrapped(text, at, mark, depth) {
  const after = at + mark.length;
  const inWord = (index) => WORD.test(text[index] ?? ' ');
  if (/\s/.test(text[after] ?? ' ') || (mark[0] === '_' && inWord(at - 1))) return null;
  for (let end = text.indexOf(mark, after + 1); end > 0; end = text.indexOf(mark, end + 1)) {
    if (mark.length === 1 && (text[end + 1] === mark || text[end - 1] === mark)) {
      end += 1;
      continue;
    }
    if (/\s/.test(text[end - 1]) || (mark[0] === '_' && inWord(end + mark.length))) continue;
    const inside = inline(text.slice(after, end), depth + 1);
    return { node: { kind: WRAPS[mark], inside }, next: end + mark.length };
  }
  return null;
}

/** The address of a link, when it is one that may be followed; else "". */
export function address(text) {
  try {
    const url = new URL(text);
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : '';
  } catch {
    return '';
  }
}

/** The text as DOM nodes. JSON is shown as it is: its stars and underscores mean nothing. */
export function render(text) {
  if (JSON_TEXT.test(text)) {
    const pre = element('pre', [element('code', [text])]);
    pre.className = 'flow';
    return pre;
  }
  const made = document.createDocumentFragment();
  made.append(...parse(text).map(blockNode));
  return made;
}

function blockNode(block) {
  switch (block.kind) {
    case 'h':
      // The page has headings of its own above these.
      return element(`h${Math.min(6, block.level + 2)}`, inlineNodes(block.inside));
    case 'code': {
      const code = element('code', [block.text]);
      const pre = element('pre', [code]);
      pre.tabIndex = 0;
      return pre;
    }
    case 'quote':
      return element('blockquote', block.blocks.map(blockNode));
    case 'rule':
      return element('hr');
    case 'list': {
      const list = element(block.ordered ? 'ol' : 'ul');
      if (block.ordered) list.start = block.start;
      for (const item of block.items) {
        const tight = item.length && item[0].kind === 'p' ? [...inlineNodes(item[0].inside), ...item.slice(1).map(blockNode)] : item.map(blockNode);
        list.append(element('li', tight));
      }
      return list;
    }
    case 'table':
      return tableNode(block);
    default:
      return element('p', inlineNodes(block.inside));
  }
}

function tableNode({ head, rows }) {
  const row = (cells, kind) => element('tr', cells.map((cell) => element(kind, inlineNodes(cell))));
  const table = element('table', [element('thead', [row(head, 'th')]), element('tbody', rows.map((cells) => row(cells, 'td')))]);
  const wide = element('div', [table]);
  wide.className = 'wide';
  wide.tabIndex = 0;
  return wide;
}

function inlineNodes(nodes) {
  return nodes.map((node) => {
    if (typeof node === 'string') return document.createTextNode(node);
    if (node.kind === 'br') return element('br');
    if (node.kind === 'code') return element('code', [node.text]);
    const made = element(node.kind, inlineNodes(node.inside));
    if (node.kind === 'a') Object.assign(made, { href: node.href, rel: 'noopener noreferrer', target: '_blank' });
    return made;
  });
}

function element(name, inside = []) {
  const made = document.createElement(name);
  made.append(...inside);
  return made;
}
