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

/** A passage's text with the cited place highlighted. */
function marked({ text, quote, start, end }) {
  let from = start ?? (quote ? text.indexOf(quote) : -1);
  let to = end ?? (from >= 0 && quote ? from + quote.length : -1);
  if (!(from >= 0 && to > from && to <= text.length)) from = to = 0;
  return [text.slice(0, from), ...(to ? [make('mark', {}, [text.slice(from, to)])] : []), text.slice(to)];
}

/** The sources that an answer's facts tell of: what it cites, else what passages it was given. */
export function sourcesOf({ citations = [], passages = [] }) {
  const known = new Map(passages.map((passage) => [passage.id, passage]));
  const cited = citations.map((citation) => {
    if (typeof citation === 'string') return { place: known.get(citation)?.place ?? citation, text: known.get(citation)?.text, cited: true };
    const passage = known.get(citation.passage) ?? {};
    const { quote, start, end } = citation;
    return { place: citation.place ?? passage.place ?? '', text: citation.text ?? passage.text, quote, start, end, cited: true };
  });
  return cited.length ? cited : passages.map(({ place, text }) => ({ place, text }));
}
