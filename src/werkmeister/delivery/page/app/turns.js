// Questions and answers as they stand on the page.
import { make } from './make.js';
import { render } from './markdown.js';

/** The element of a turn. `acts` are {copy(turn), again(turn) or undefined}. */
export function turnNode(turn, { words, expert, acts }) {
  const mine = turn.role === 'user';
  const node = make('article', { className: `turn ${turn.role}` }, [make('h3', { className: 'who' }, [mine ? words.you : expert])]);
  const text = make('div', { className: 'text' }, mine ? [turn.content] : []);
  node.append(text);
  if (!mine) showAnswer(node, turn, { words, acts });
  return node;
}

/** Bring the element of an answer up to what the turn holds. */
export function showAnswer(node, turn, { words, acts, waiting = false }) {
  node.classList.toggle('waiting', waiting);
  node.querySelector('.text').replaceChildren(render(turn.content));
  node.querySelectorAll('.note, .sources, .foot').forEach((old) => old.remove());
  if (waiting) return;
  for (const { text, bad } of notes(turn, words)) node.append(make('p', { className: bad ? 'note bad' : 'note' }, [text]));
  if (turn.sources?.length) node.append(sourcesNode(turn.sources, words));
  const foot = make('div', { className: 'foot' }, [make('span', {}, [words.facts(turn.facts ?? {})])]);
  const button = (word, act) => foot.append(make('button', { type: 'button', className: 'quiet', onclick: act }, [word]));
  if (turn.content) button(words.copy, (event) => acts.copy(turn, event.target));
  if (acts.again) button(words.again, () => acts.again(turn));
  node.append(foot);
}

function notes(turn, words) {
  const found = [];
  if (turn.dropped) found.push({ text: words.dropped(turn.dropped) });
  if (turn.stopped) found.push({ text: words.stopped });
  if (turn.facts?.finish === 'length') found.push({ text: words.cut });
  for (const note of turn.facts?.notes ?? []) found.push({ text: note });
  const alone = unsupported(turn.content, turn.facts?.citations);
  if (alone.length) found.push({ text: words.unsupported(alone), bad: true });
  if (turn.failure) found.push({ text: turn.failure, bad: true });
  return found;
}

function sourcesNode(sources, words) {
  const cited = sources.some((source) => source.cited);
  const title = (cited ? words.sources : words.given)(sources.length);
  const body = sources.map((source) => {
    if (!source.text) return make('p', {}, [source.place]);
    return make('details', {}, [make('summary', {}, [source.place]), make('div', { className: 'passage', tabIndex: 0 }, marked(source))]);
  });
  return make('details', { className: 'sources', open: cited }, [make('summary', {}, [title]), ...body]);
}

/** A passage's text with the cited places highlighted. */
function marked({ text, ranges = [] }) {
  const nodes = [];
  let at = 0;
  for (const [start, end] of ranges) {
    nodes.push(characters(text, at, start), make('mark', {}, [characters(text, start, end)]));
    at = end;
  }
  return [...nodes, characters(text, at)];
}

/** The sources that an answer's facts tell of: the passages that it cites, else those that it was given.
 *
 * A citation is {passage, place, quote, start, end}, or the id of a passage. Places that overlap become one. */
export function sourcesOf({ citations = [], passages = [] }) {
  const known = new Map(passages.map((passage) => [passage.id, passage]));
  const found = new Map();
  for (const given of citations) {
    const citation = typeof given === 'string' ? { passage: given } : given;
    if (citation.support === 'none') continue;
    const passage = known.get(citation.passage) ?? {};
    const key = citation.passage ?? citation.place;
    const place = citation.place ?? passage.place ?? String(key);
    if (!found.has(key)) found.set(key, { place, text: citation.text ?? passage.text, quotes: [], ranges: [], cited: true });
    const source = found.get(key);
    if (citation.quote) source.quotes.push(citation.quote);
    const range = rangeOf(citation, source.text ?? '');
    if (range) source.ranges = merged([...source.ranges, range]);
  }
  return found.size ? [...found.values()] : passages.map(({ place, text }) => ({ place, text }));
}

function rangeOf({ start, end, quote }, text) {
  const at = quote ? text.indexOf(quote) : -1;
  const from = start ?? (at < 0 ? -1 : [...text.slice(0, at)].length);
  const to = end ?? from + [...(quote ?? '')].length;
  return from >= 0 && to > from && to <= [...text].length ? [from, to] : null;
}

function merged(ranges) {
  const found = [];
  for (const [start, end] of ranges.sort((a, b) => a[0] - b[0])) {
    const last = found.at(-1);
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else found.push([start, end]);
  }
  return found;
}

/** The sentences of an answer that stand in no source, as the citations tell. */
export function unsupported(content, citations = []) {
  return citations.filter(({ support }) => support === 'none').map(({ sentence: [start, end] }) => characters(content, start, end));
}

/** Python counts characters where JavaScript counts halves of those beyond the first plane. */
const characters = (text, start, end) => [...text].slice(start, end).join('');
