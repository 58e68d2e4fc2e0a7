// The person's conversations, kept in this browser and nowhere else: one entry of the local storage each.

const HERE = new URL('.', globalThis.location?.href ?? 'file:///').pathname;
const HEAD = `werkmeister ${HERE} conversation `;

/** All conversations, the latest first: {id, name, changed, turns: [{role, content, …}]}. */
export function list(storage = localStorage) {
  const found = [];
  for (let number = 0; number < storage.length; number++) {
    const key = storage.key(number);
    if (!key.startsWith(HEAD)) continue;
    const one = read(storage.getItem(key));
    if (one) found.push(one);
  }
  return found.sort((a, b) => b.changed - a.changed);
}

function read(text) {
  try {
    const one = JSON.parse(text);
    const whole = typeof one.id === 'string' && typeof one.name === 'string' && Array.isArray(one.turns);
    return whole && one.turns.every((turn) => typeof turn.content === 'string') ? one : null;
  } catch {
    return null;
  }
}

/** Browsers give crypto.randomUUID to secure pages alone, and a gateway may be reached by plain http. */
function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** A new conversation, not saved before something stands in it. */
export function fresh() {
  return { id: newId(), name: '', changed: Date.now(), turns: [] };
}

/** Save a conversation; throws QuotaExceededError when the browser's room is full. */
export function save(conversation, storage = localStorage) {
  conversation.changed = Date.now();
  storage.setItem(HEAD + conversation.id, JSON.stringify(conversation));
}

export function load(id, storage = localStorage) {
  return read(storage.getItem(HEAD + id) ?? '');
}

export function remove(id, storage = localStorage) {
  storage.removeItem(HEAD + id);
}

export function removeAll(storage = localStorage) {
  for (const { id } of list(storage)) remove(id, storage);
}

/** Whether a change in another tab (a storage event) is about conversations. */
export const concerns = (event) => event.key === null || event.key.startsWith(HEAD);

/** The name that a conversation gets from its first question. */
export function nameFrom(question) {
  const line = question.trim().split('\n')[0];
  return line.length > 48 ? `${line.slice(0, 47).trimEnd()}…` : line;
}

/** What the engine is given: the turns in turn. A question that was never answered is left out once another follows. */
export function messages(turns) {
  const given = [];
  for (const { role, content } of turns) {
    if (role === 'user' && given.at(-1)?.role === 'user') given.pop();
    if (content) given.push({ role, content });
  }
  return given;
}

/** Without the two oldest turns (a question and its answer); null when only the newest question is left. */
export function shortened(given) {
  return given.length > 2 ? given.slice(2) : null;
}

/** A conversation as a Markdown document: questions, answers, sources. */
export function asMarkdown(conversation, words, expert) {
  const lines = [`# ${conversation.name || words.untitled}`, '', `${expert} · ${new Date(conversation.changed).toISOString()}`, ''];
  for (const turn of conversation.turns) {
    lines.push(`## ${turn.role === 'user' ? words.you : expert}`, '', turn.content, '');
    for (const source of turn.sources ?? []) lines.push(`- ${source.place}${(source.quotes ?? []).map((quote) => `: “${quote}”`).join('')}`);
    if (turn.sources?.length) lines.push('');
  }
  return lines.join('\n');
}
