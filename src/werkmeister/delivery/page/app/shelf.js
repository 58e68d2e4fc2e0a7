// The person's conversations on the page: the list, the open one, and what can be done with it.
import * as kept from './conversations.js';
import { ask, askText, close } from './dialogs.js';
import { make } from './make.js';
import { app, at, expertName, say } from './state.js';
import { turnNode } from './turns.js';

const nodes = new WeakMap();

/** The element of a turn of the open conversation, as it stands on the page now. */
export const nodeOf = (turn) => nodes.get(turn);

export function showList() {
  const items = kept.list().map((one) => {
    const current = one.id === app.conversation.id;
    const button = make('button', { type: 'button', onclick: () => open(kept.load(one.id) ?? kept.fresh()) }, [one.name || app.words.untitled]);
    if (current) button.setAttribute('aria-current', 'true');
    return make('li', {}, [button]);
  });
  at('list').replaceChildren(...items);
  at('remove-all').hidden = items.length === 0;
}

export function showConversation() {
  const { conversation } = app;
  at('title').textContent = conversation.name;
  for (const id of ['rename', 'export', 'remove']) at(id).hidden = conversation.turns.length === 0;
  for (const turn of conversation.turns) nodes.set(turn, turnNode(turn, facing(turn)));
  at('turns').replaceChildren(...conversation.turns.map(nodeOf));
  at('turns').scrollTop = at('turns').scrollHeight;
}

export function facing(turn) {
  const last = app.conversation.turns.at(-1) === turn && turn.role === 'assistant';
  return { words: app.words, expert: expertName(), acts: { ...app.acts, again: last ? app.acts.again : undefined } };
}

export function open(conversation) {
  app.busy?.abort();
  app.conversation = conversation;
  showSide(false);
  showList();
  showConversation();
  at('question').focus();
}

export function keep() {
  try {
    kept.save(app.conversation);
  } catch (error) {
    if (error.name !== 'QuotaExceededError') throw error;
    say(app.state, (words) => words.failures.full);
  }
  showList();
}

export async function rename() {
  const { words, conversation } = app;
  const name = await askText({ title: words.renameTitle, label: words.renameLabel, value: conversation.name, yes: words.save, no: words.cancel });
  if (!name?.trim()) return;
  conversation.name = name.trim();
  at('title').textContent = conversation.name;
  keep();
}

export async function remove() {
  const { words, conversation } = app;
  const body = [words.removeText(conversation.name)];
  if (!(await ask({ title: words.removeTitle, body, yes: words.remove, no: words.cancel }))) return;
  open(kept.fresh());
  kept.remove(conversation.id);
  showList();
}

export async function removeAll() {
  const { words } = app;
  const body = [words.removeAllText(kept.list().length)];
  if (!(await ask({ title: words.removeAllTitle, body, yes: words.removeAll, no: words.cancel }))) return;
  open(kept.fresh());
  kept.removeAll();
  showList();
}

export async function exportConversation() {
  const { words, conversation } = app;
  const file = (text, type, ending) => () => {
    const url = URL.createObjectURL(new Blob([text], { type }));
    const name = (conversation.name || words.untitled).replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '');
    make('a', { href: url, download: `${name}.${ending}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    close();
  };
  const markdown = file(kept.asMarkdown(conversation, words, expertName()), 'text/markdown', 'md');
  const json = file(`${JSON.stringify({ expert: expertName(), identity: app.about?.identity, ...conversation }, null, 2)}\n`, 'application/json', 'json');
  const choices = [make('button', { type: 'button', onclick: markdown }, [words.exportMarkdown]), make('button', { type: 'button', onclick: json }, [words.exportJson])];
  await ask({ title: words.exportTitle, body: [make('div', { className: 'choices' }, choices)], no: words.cancel });
}

export function showSide(open) {
  at('side').classList.toggle('open', open);
  at('show-list').setAttribute('aria-expanded', String(open));
}
