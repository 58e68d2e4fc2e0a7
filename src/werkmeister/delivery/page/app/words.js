// Everything that the page says, in English and German.

const bytes = (language) => (size) => {
  const units = ['B', 'kB', 'MB', 'GB'];
  let step = 0;
  while (size >= 999.5 && step < 3) {
    size /= 1000;
    step++;
  }
  return `${size.toLocaleString(language, { maximumFractionDigits: size < 10 && step ? 1 : 0 })} ${units[step]}`;
};
const number = (language) => (value, digits = 1) => value.toLocaleString(language, { maximumFractionDigits: digits });

const EN = {
  code: 'en', other: 'Deutsch', otherCode: 'de',
  skip: 'To the question', conversations: 'Conversations', fresh: 'New conversation', untitled: 'New conversation',
  local: 'Conversations stay in this browser.', removeAll: 'Delete all', rename: 'Rename', export: 'Export', remove: 'Delete',
  install: 'Install', themes: { auto: 'Colours: system', light: 'Colours: light', dark: 'Colours: dark' },
  question: 'Your question', send: 'Send', stop: 'Stop', you: 'You', copy: 'Copy', copied: 'Copied', again: 'Answer again',
  hint: 'Enter sends, Shift+Enter begins a new line, Escape stops.',
  empty: (name) => `Ask ${name} something.`,
  states: { starting: 'Starting', missing: 'Model not loaded', storing: 'Downloading', loading: 'Loading model', ready: 'Ready', answering: 'Answering', failed: 'Not ready' },
  where: { gateway: 'on the gateway', browser: 'in this browser' },
  startTitle: 'The expert runs in this browser',
  startText: (size) => `Its model has ${size}. It is downloaded once and kept in this browser; from then on the expert answers without a network, and no question leaves this device.`,
  room: ({ free, quota }) => `The browser grants this page ${quota}; ${free} are free.`,
  roomShort: ({ free, needed }) => `The model needs ${needed}, and the browser grants only ${free} more. Free some space on this device and reload the page.`,
  begin: 'Download and start', gpu: (name) => `Compute on the graphics processor (${name}). Not compared with the exam: answers may differ.`,
  storing: ({ loaded, total, left }) => `${loaded} of ${total}${left ? `, about ${left} left` : ''}`, loading: 'The model is being loaded.',
  seconds: (s) => (s < 90 ? `${Math.max(1, Math.round(s))} s` : `${Math.round(s / 60)} min`),
  answering: 'The answer begins.', answered: 'Answer:', stopped: 'Stopped.', cut: 'The answer reached its longest length and was cut.',
  dropped: (n) => (n === 1 ? 'The oldest question and its answer no longer fit and were left out.' : `The ${n} oldest questions and their answers no longer fit and were left out.`),
  sources: (n) => (n === 1 ? '1 source' : `${n} sources`), given: (n) => (n === 1 ? '1 passage was given to the model' : `${n} passages were given to the model`),
  unsupported: (sentences) => `Found in no source: ${sentences.map((sentence) => `“${sentence}”`).join(' ')}`,
  facts: ({ tokens, seconds, confidence }) => [tokens && `${tokens} tokens`, seconds && `${number('en')(seconds)} s`, confidence != null && `least likely token ${number('en')(100 * confidence, 0)}\u00a0%`].filter(Boolean).join(' · '),
  renameTitle: 'Rename the conversation', renameLabel: 'Name', save: 'Save', cancel: 'Cancel', close: 'Close',
  removeTitle: 'Delete this conversation?', removeText: (name) => `“${name}” is deleted from this browser. There is no other copy.`,
  removeAllTitle: 'Delete all conversations?', removeAllText: (n) => `${n} conversations are deleted from this browser. There is no other copy.`,
  exportTitle: 'Export the conversation', exportMarkdown: 'As Markdown', exportJson: 'As JSON',
  keyTitle: 'The gateway asks for a key', keyLabel: 'API key', keyText: 'It is kept until this tab is closed.',
  aboutTitle: 'About this expert', about: {
    engine: 'Computed', model: 'Model', size: 'Size', context: 'Context', tokens: (n) => `${n.toLocaleString('en')} tokens`, processor: 'Processor', identity: 'Identity', storage: 'Storage', load: 'Loaded in', licences: 'Licences',
  },
  cpu: (n) => (n === 1 ? 'CPU, 1 thread' : `CPU, ${n} threads`), cpuAlone: 'CPU, 1 thread (this page is not isolated, so it may use no more)',
  gpuUsed: (name) => `graphics processor ${name}, not compared with the exam`,
  persisted: 'kept until you delete it', notPersisted: 'the browser may delete it when space is short',
  check: 'Check golden answers', checking: (done, all) => `${done} of ${all} checked`,
  checked: (same, all) => `${same} of ${all} answers are those that were recorded at export.`,
  forget: 'Delete the model from this browser', forgotten: 'The model was deleted. Reload the page to download it again.',
  failures: {
    key: 'The gateway wants another API key.', busy: 'The gateway is busy. Ask again in a moment.', broken: 'The answer broke off: the connection ended.',
    context: 'The question is too long for this model.', network: 'The gateway cannot be reached. Is it running?', full: 'The browser has no more room for conversations: delete some.',
    storing: (what) => `The model could not be downloaded: ${what}`, loading: (what) => `The model could not be loaded: ${what}`,
    HashError: 'a file arrived damaged. Try again.', ShortError: 'the connection ended early. Try again; it goes on from there.', QuotaExceededError: 'there is no room left on this device.',
    TypeError: 'the network or the server that this page came from cannot be reached.',
    HttpError: (file, what) => `${file}: ${what}`, expert: 'This page found no expert.json beside it, so it does not know what to answer with.',
    insecure: 'this address is not secure: the page needs https, or localhost.',
    unfit: 'this browser lacks what the model needs (WebAssembly with 64-bit memory). Current Chrome, Edge and Firefox have it.',
    other: (what) => `No answer: ${what}`,
  },
};

const DE = {
  code: 'de', other: 'English', otherCode: 'en',
  skip: 'Zur Frage', conversations: 'Gespräche', fresh: 'Neues Gespräch', untitled: 'Neues Gespräch',
  local: 'Gespräche bleiben in diesem Browser.', removeAll: 'Alle löschen', rename: 'Umbenennen', export: 'Exportieren', remove: 'Löschen',
  install: 'Installieren', themes: { auto: 'Farben: System', light: 'Farben: hell', dark: 'Farben: dunkel' },
  question: 'Ihre Frage', send: 'Senden', stop: 'Anhalten', you: 'Sie', copy: 'Kopieren', copied: 'Kopiert', again: 'Neu antworten',
  hint: 'Eingabetaste sendet, Umschalt+Eingabe beginnt eine neue Zeile, Escape hält an.',
  empty: (name) => `Fragen Sie ${name} etwas.`,
  states: { starting: 'Startet', missing: 'Modell nicht geladen', storing: 'Lädt herunter', loading: 'Modell wird geladen', ready: 'Bereit', answering: 'Antwortet', failed: 'Nicht bereit' },
  where: { gateway: 'auf dem Gateway', browser: 'in diesem Browser' },
  startTitle: 'Der Experte läuft in diesem Browser',
  startText: (size) => `Sein Modell hat ${size}. Es wird einmal heruntergeladen und in diesem Browser behalten; danach antwortet der Experte ohne Netz, und keine Frage verlässt dieses Gerät.`,
  room: ({ free, quota }) => `Der Browser gewährt dieser Seite ${quota}; ${free} sind frei.`,
  roomShort: ({ free, needed }) => `Das Modell braucht ${needed}, und der Browser gewährt nur noch ${free}. Schaffen Sie Platz auf diesem Gerät und laden Sie die Seite neu.`,
  begin: 'Herunterladen und starten', gpu: (name) => `Auf der Grafikeinheit rechnen (${name}). Nicht mit der Prüfung verglichen: Antworten können abweichen.`,
  storing: ({ loaded, total, left }) => `${loaded} von ${total}${left ? `, noch etwa ${left}` : ''}`, loading: 'Das Modell wird geladen.',
  seconds: (s) => (s < 90 ? `${Math.max(1, Math.round(s))} s` : `${Math.round(s / 60)} min`),
  answering: 'Die Antwort beginnt.', answered: 'Antwort:', stopped: 'Angehalten.', cut: 'Die Antwort erreichte ihre größte Länge und wurde abgeschnitten.',
  dropped: (n) => (n === 1 ? 'Die älteste Frage und ihre Antwort passten nicht mehr und wurden weggelassen.' : `Die ${n} ältesten Fragen und ihre Antworten passten nicht mehr und wurden weggelassen.`),
  sources: (n) => (n === 1 ? '1 Quelle' : `${n} Quellen`), given: (n) => (n === 1 ? '1 Textstelle lag dem Modell vor' : `${n} Textstellen lagen dem Modell vor`),
  unsupported: (sentences) => `Steht in keiner Quelle: ${sentences.map((sentence) => `„${sentence}“`).join(' ')}`,
  facts: ({ tokens, seconds, confidence }) => [tokens && `${tokens} Token`, seconds && `${number('de')(seconds)} s`, confidence != null && `unwahrscheinlichstes Token ${number('de')(100 * confidence, 0)}\u00a0%`].filter(Boolean).join(' · '),
  renameTitle: 'Gespräch umbenennen', renameLabel: 'Name', save: 'Speichern', cancel: 'Abbrechen', close: 'Schließen',
  removeTitle: 'Dieses Gespräch löschen?', removeText: (name) => `„${name}“ wird aus diesem Browser gelöscht. Es gibt keine andere Kopie.`,
  removeAllTitle: 'Alle Gespräche löschen?', removeAllText: (n) => `${n} Gespräche werden aus diesem Browser gelöscht. Es gibt keine andere Kopie.`,
  exportTitle: 'Gespräch exportieren', exportMarkdown: 'Als Markdown', exportJson: 'Als JSON',
  keyTitle: 'Das Gateway verlangt einen Schlüssel', keyLabel: 'API-Schlüssel', keyText: 'Er bleibt, bis dieser Tab geschlossen wird.',
  aboutTitle: 'Über diesen Experten', about: {
    engine: 'Gerechnet', model: 'Modell', size: 'Größe', context: 'Kontext', tokens: (n) => `${n.toLocaleString('de')} Token`, processor: 'Prozessor', identity: 'Kennung', storage: 'Speicher', load: 'Geladen in', licences: 'Lizenzen',
  },
  cpu: (n) => `CPU, ${n} Thread${n === 1 ? '' : 's'}`, cpuAlone: 'CPU, 1 Thread (diese Seite ist nicht abgeschottet und darf nicht mehr nutzen)',
  gpuUsed: (name) => `Grafikeinheit ${name}, nicht mit der Prüfung verglichen`,
  persisted: 'bleibt, bis Sie es löschen', notPersisted: 'der Browser darf es löschen, wenn Platz fehlt',
  check: 'Vergleichsantworten prüfen', checking: (done, all) => `${done} von ${all} geprüft`,
  checked: (same, all) => `${same} von ${all} Antworten sind die beim Export aufgezeichneten.`,
  forget: 'Modell aus diesem Browser löschen', forgotten: 'Das Modell wurde gelöscht. Laden Sie die Seite neu, um es wieder herunterzuladen.',
  failures: {
    key: 'Das Gateway verlangt einen anderen API-Schlüssel.', busy: 'Das Gateway ist ausgelastet. Fragen Sie gleich noch einmal.', broken: 'Die Antwort brach ab: die Verbindung endete.',
    context: 'Die Frage ist für dieses Modell zu lang.', network: 'Das Gateway ist nicht erreichbar. Läuft es?', full: 'Der Browser hat keinen Platz mehr für Gespräche: löschen Sie einige.',
    storing: (what) => `Das Modell konnte nicht heruntergeladen werden: ${what}`, loading: (what) => `Das Modell konnte nicht geladen werden: ${what}`,
    HashError: 'eine Datei kam beschädigt an. Versuchen Sie es noch einmal.', ShortError: 'die Verbindung endete zu früh. Versuchen Sie es noch einmal; es geht dort weiter.', QuotaExceededError: 'auf diesem Gerät ist kein Platz mehr.',
    TypeError: 'das Netz oder der Server, von dem diese Seite kam, ist nicht erreichbar.',
    HttpError: (file, what) => `${file}: ${what}`, expert: 'Diese Seite fand keine expert.json neben sich und weiß nicht, womit sie antworten soll.',
    insecure: 'diese Adresse ist nicht sicher: die Seite braucht https oder localhost.',
    unfit: 'diesem Browser fehlt, was das Modell braucht (WebAssembly mit 64-Bit-Speicher). Aktuelle Versionen von Chrome, Edge und Firefox haben es.',
    other: (what) => `Keine Antwort: ${what}`,
  },
};

for (const words of [EN, DE]) Object.assign(words, { bytes: bytes(words.code), number: number(words.code) });

const CHOICE = 'werkmeister language';
export const LANGUAGES = { en: EN, de: DE };

/** The words in force: what the address (?lang=de), else the person, else the browser chose. */
export function chosen() {
  const asked = new URLSearchParams(location.search).get('lang') ?? localStorage.getItem(CHOICE);
  if (LANGUAGES[asked]) return LANGUAGES[asked];
  return (navigator.languages ?? []).map((tag) => LANGUAGES[tag.slice(0, 2)]).find(Boolean) ?? EN;
}

export function choose(code) {
  localStorage.setItem(CHOICE, code);
  const url = new URL(location.href);
  if (url.searchParams.has('lang')) {
    url.searchParams.delete('lang');
    history.replaceState(null, '', url);
  }
}
