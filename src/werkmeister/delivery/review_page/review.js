// The review page: asks the server for pairs, shows one or a list of them, and sends every decision at once.
const t = JSON.parse(document.getElementById("labels").textContent);
const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat(document.documentElement.lang);
const share = new Intl.NumberFormat(document.documentElement.lang, { style: "percent", maximumFractionDigits: 1 });
const ROWS = 50;

let ids = []; // what the filters let through when they were last applied; a decided pair stays until they are again
let at = 0;
let item = null;
let listing = false;
let listed = 0;
let queue = Promise.resolve(); // what a person does is done in order: a key that is faster than the disk waits

const fill = (words, values) => words.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
const show = (id, visible) => { $(id).hidden = !visible; };

async function ask(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw new Error(t.gone);
  }
  const said = await reply.json().catch(() => ({ error: `${reply.status}` }));
  if (!reply.ok) throw new Error(said.error);
  return said;
}

function fail(error, words = "{error}") {
  $("failure").textContent = fill(words, { error: error.message });
  show("failure", true);
}

function tell(progress) {
  const words = fill(t.progress, {
    decided: number.format(progress.decided), total: number.format(progress.total),
    keep: number.format(progress.counts.keep), edit: number.format(progress.counts.edit), drop: number.format(progress.counts.drop),
  });
  $("count").textContent = words;
  $("bar").max = Math.max(1, progress.total);
  $("bar").value = progress.decided;
  const v = progress.verdict;
  show("verdict", Boolean(v));
  if (v) {
    $("verdict").textContent = fill(v.n < progress.total ? t.right_so_far : t.right, {
      total: number.format(progress.total), right: number.format(v.right), n: number.format(v.n), value: share.format(v.value),
      low: share.format(v.low), high: share.format(v.high), confidence: share.format(v.confidence),
    });
  }
  return words;
}

function tag(words, kind) {
  const made = document.createElement("span");
  made.className = `tag ${kind}`;
  made.textContent = words;
  return made;
}

function unseen(words) {
  const made = document.createElement("span");
  made.className = "unseen";
  made.textContent = ` [${words}] `;
  return made;
}

function showPassage() {
  const { before, evidence, after } = item.passage;
  const parts = [before];
  if (evidence) {
    const mark = document.createElement("mark");
    mark.append(unseen(t.evidence_begins), evidence, unseen(t.evidence_ends));
    parts.push(mark);
  }
  $("passage").replaceChildren(...parts, after);
  $("place").textContent = item.place;
  $("heading").textContent = item.heading;
  const lost = item.evidence && !evidence;
  const words = !before && !evidence && !after ? t.no_passage : lost ? fill(t.not_found, item) : item.evidence ? "" : t.no_evidence;
  $("unmarked").textContent = words;
  show("unmarked", Boolean(words));
  const mark = $("passage").querySelector("mark");
  // A phone shows the whole passage; where it scrolls in its own box, the evidence is brought into view.
  $("passage").scrollTop = mark ? Math.max(0, mark.offsetTop - $("passage").offsetTop - 60) : 0;
}

function showItem() {
  show("single", Boolean(item) && !listing);
  if (!item) return;
  $("question").textContent = item.question;
  $("answer").textContent = item.answer;
  const edited = item.decision === "edit";
  show("was", edited);
  $("was-text").textContent = edited ? `${item.original.question}\n${item.original.answer}` : "";
  const tags = [tag(item.answerable ? t.kinds[item.kind] ?? item.kind : t.unanswerable, "")];
  if (item.decision) tags.unshift(tag(t.verdicts[item.decision], item.decision));
  tags.push(...item.flags.map((flag) => tag(flag, "flag")));
  $("tags").replaceChildren(...tags);
  show("turned-down", Boolean(item.check));
  $("turned-down").textContent = item.check ? fill(t.turned_down, item) : "";
  $("note").value = item.note;
  closeEditor();
  showPassage();
}

function showPosition() {
  const some = ids.length > 0;
  $("position").textContent = some && !listing ? fill(t.position, { at: number.format(at + 1), total: number.format(ids.length) }) : "";
  $("previous").disabled = listing || at === 0;
  $("next").disabled = listing || at >= ids.length - 1;
  $("filtered").textContent = fill(t.shown, { total: number.format(ids.length) });
  show("nothing", !some);
  setButtons();
}

function setButtons() {
  for (const id of ["keep", "edit", "drop"]) $(id).disabled = listing || !item || !$("editing").hidden;
}

async function go(to) {
  at = Math.max(0, Math.min(to, ids.length - 1));
  item = ids[at] ? await ask(`item/${ids[at]}`) : null;
  if (item) history.replaceState(null, "", `#${item.id}`);
  showItem();
  showPosition();
}

function line(row) {
  const entry = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  const question = document.createElement("b");
  question.textContent = row.question;
  const answer = document.createElement("span");
  answer.className = "soft answer";
  answer.textContent = row.answer;
  const tags = document.createElement("span");
  tags.className = "tags";
  tags.append(tag(t.verdicts[row.decision || "undecided"], row.decision), tag(t.kinds[row.kind] ?? row.kind, ""));
  if (row.check) tags.append(tag(row.check, "flag"));
  tags.append(tag(row.document, "soft"));
  button.append(question, answer, tags);
  button.addEventListener("click", () => act(async () => {
    setListing(false);
    await go(ids.indexOf(row.id));
    $("pair").focus();
  }));
  entry.append(button);
  return entry;
}

async function showMore() {
  const wanted = ids.slice(listed, listed + ROWS);
  const { rows } = wanted.length ? await ask(`rows?ids=${wanted.join(",")}`) : { rows: [] };
  listed += wanted.length;
  $("list").append(...rows.map(line));
  show("more", listing && listed < ids.length);
}

function setListing(on) {
  listing = on;
  $("one").setAttribute("aria-pressed", String(!on));
  $("many").setAttribute("aria-pressed", String(on));
  show("list", on);
  show("more", false);
  show("single", Boolean(item) && !on);
  showPosition();
}

async function showList() {
  setListing(true);
  listed = 0;
  $("list").replaceChildren();
  await showMore();
}

async function applyFilters(wanted) {
  const query = new URLSearchParams(new FormData($("filter")));
  const found = await ask(`ids?${query}`);
  ids = found.ids;
  if (listing) await showList();
  await go(ids.includes(wanted) ? ids.indexOf(wanted) : found.first);
}

async function decide(decision, texts = {}) {
  // A letter typed before the editor was there is text that came too early, and no decision.
  if (!item || listing || (decision !== "edit" && !$("editing").hidden)) return;
  const { item: after, progress } = await ask("decide", { id: item.id, decision, note: $("note").value, ...texts });
  item = after;
  show("failure", false);
  const saved = fill(t.saved, { verdict: t.verdicts[after.decision || "undecided"], progress: tell(progress) });
  const last = at >= ids.length - 1;
  await go(at + 1);
  $("said").textContent = last ? saved : `${saved} ${t.question}: ${item.question}`;
}

async function undo() {
  const { item: after, progress } = await ask("undo", {});
  show("failure", false);
  $("said").textContent = after ? t.undone : t.nothing_to_undo;
  if (!after) return;
  tell(progress);
  if (!ids.includes(after.id)) ids.splice(at, 0, after.id);
  setListing(false);
  await go(ids.indexOf(after.id));
}

function openEditor() {
  if (!item || listing) return;
  show("reading", false);
  show("editing", true);
  $("new-question").value = item.question;
  $("new-answer").value = item.answer;
  setButtons();
  $("new-answer").focus();
}

function closeEditor() {
  show("editing", false);
  show("reading", true);
  setButtons();
}

const act = (work, words) => { queue = queue.then(work).catch((error) => fail(error, words)); };
const on = (id, work, words) => $(id).addEventListener("click", () => act(work, words));
const refilter = () => act(() => applyFilters(item?.id));

on("keep", () => decide("keep"), t.not_saved);
on("drop", () => decide("drop"), t.not_saved);
on("undo", undo, t.not_saved);
on("edit", openEditor);
on("previous", () => go(at - 1));
on("next", () => go(at + 1));
on("one", () => { setListing(false); return go(at); });
on("many", showList);
on("more", showMore);
on("cancel", () => { closeEditor(); $("edit").focus(); });
$("editing").addEventListener("submit", (event) => {
  event.preventDefault();
  act(async () => {
    await decide("edit", { question: $("new-question").value, answer: $("new-answer").value });
    $("pair").focus();
  }, t.not_saved);
});
$("filter").addEventListener("change", refilter);
$("filter").addEventListener("submit", (event) => event.preventDefault());
$("filter").addEventListener("reset", () => setTimeout(refilter));
$("search").addEventListener("search", refilter);

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([type=checkbox]), textarea, select");
  if (!$("editing").hidden) {
    if (event.key === "Escape") $("cancel").click();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); $("editing").requestSubmit(); }
    return;
  }
  if (event.repeat || typing || !$("keys").checked || event.ctrlKey || event.metaKey || event.altKey) return;
  const pressed = { k: "keep", e: "edit", d: "drop", u: "undo", ArrowLeft: "previous", ArrowRight: "next" };
  const name = pressed[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (name) { event.preventDefault(); $(name).click(); }
});

async function start() {
  const found = await ask("overview");
  tell(found.progress);
  show("notes", found.notes.length > 0);
  $("notes").textContent = found.notes.join("; ");
  for (const [name, values] of Object.entries(found.values)) {
    const select = $("filter").elements[name];
    for (const [value, count] of values) {
      const words = name === "kind" ? t.kinds[value] ?? value : value;
      select.add(new Option(`${words} (${number.format(count)})`, value));
    }
    select.closest("label").hidden = values.length === 0;
  }
  $("state").closest("label").hidden = found.dropped === 0;
  if (matchMedia("(min-width: 57rem)").matches) $("filters").open = true;
  await applyFilters(location.hash.slice(1));
}

act(start);
