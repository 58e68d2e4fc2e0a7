// What is known of the expert and of where it is computed, and the check of its golden answers.
import { make } from './make.js';
import { forget, room } from './storage.js';

/** The nodes of the dialog about the expert. */
export async function aboutNodes(engine, words, { ready, say }) {
  const rows = engine.kind === 'browser' ? await localRows(engine, words) : gatewayRows(engine, words);
  const list = make('dl', {}, rows.filter(([, value]) => value).flatMap(([name, value]) => [make('dt', {}, [name]), make('dd', {}, [value])]));
  if (engine.kind !== 'browser') return [list];
  const links = make('p', {}, [make('a', { href: 'LICENSES.txt', target: '_blank' }, [words.about.licences])]);
  const told = make('p', { role: 'status', id: 'told' });
  const acts = make('div', { className: 'choices' });
  const button = (id, word, act) => acts.append(make('button', { id, type: 'button', onclick: act }, [word]));
  if (ready && engine.about.expected) button('check', words.check, () => check(engine, words, told));
  button('forget', words.forget, async () => {
    await engine.close();
    await forget();
    told.textContent = words.forgotten;
    say('missing');
  });
  return [list, links, acts, told];
}

function gatewayRows(engine, words) {
  const { about } = words;
  return [[about.engine, words.where.gateway], [about.model, engine.about.name], [about.identity, engine.about.identity]];
}

async function localRows(engine, words) {
  const { about } = words;
  const { model, context_length: context, identity } = engine.about;
  const { usage, quota, persisted } = await room();
  const isolated = globalThis.crossOriginIsolated === true;
  const processor = engine.gpu ? words.gpuUsed(engine.gpu.name) : engine.threads === 1 && !isolated ? words.cpuAlone : words.cpu(engine.threads);
  return [
    [about.engine, words.where.browser],
    [about.processor, engine.threads ? processor : ''],
    [about.model, model.name],
    [about.size, words.bytes(model.bytes)],
    [about.context, about.tokens(context)],
    [about.load, engine.loadSeconds ? `${words.number(engine.loadSeconds)} s` : ''],
    [about.storage, `${words.bytes(usage)} / ${words.bytes(quota)}, ${persisted ? words.persisted : words.notPersisted}`],
    [about.identity, identity],
  ];
}

/** Ask the golden questions again and compare. */
async function check(engine, words, told) {
  const golden = await readGolden(engine.about.expected);
  told.textContent = words.checking(0, golden.length);
  const same = await replay(engine, golden, (done) => (told.textContent = words.checking(done, golden.length)));
  told.textContent = words.checked(same.filter(Boolean).length, golden.length);
}

/** The golden questions and answers: [{messages, answer}]. */
export async function readGolden(name) {
  const response = await fetch(name);
  return (await response.text()).split('\n').filter((line) => line.trim()).map((line) => JSON.parse(line));
}

/** Whether each answer is the one that was recorded, in order. */
export async function replay(engine, golden, tell = () => {}) {
  const same = [];
  for (const { messages, answer, max_tokens } of golden) {
    let text = '';
    // Recorded without a schema: what the model says by itself.
    const more = { temperature: 0, top_k: 1, samplers: ['top_k'], response_format: undefined, ...(max_tokens ? { max_tokens } : {}) };
    await engine.answer(messages, { said: (piece) => (text += piece), bare: true, ...more });
    same.push(text === answer);
    tell(same.length);
  }
  return same;
}
