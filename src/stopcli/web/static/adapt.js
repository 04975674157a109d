// training: begun, watched, stopped, used, compared
import {fetched, piece, send, status} from './server.js';
import {ask, keepSaid, say, state, trying, untouched} from './state.js';
import {showSide} from './label.js';
import {cards, focus, show} from './grid.js';

const side = document.getElementById('side');
const dialog = document.getElementById('compare');

function settings() {
  const epochs = side.querySelector('#epochs')?.value;
  return epochs ? {epochs: +epochs} : {};
}

async function opened(...view) {
  const wanted = untouched(), html = await piece(...view);
  if (!wanted()) return say('It is ready: press the button again.');  // something else is done by now
  dialog.innerHTML = html;
  dialog.showModal();
  focus(cards(dialog)[0]);
}

const actions = {
  train: () => send('/api/train', settings()).then(({folder, name, gone}) => say([
    folder ? `${name} is being trained; it goes on without this page.` : 'The training begins when the work before it is done.',
    gone ? ` ${gone === 1 ? 'One labelled clip is' : `${gone} labelled clips are`} gone and left out.` : ''].join(''), Boolean(gone))),
  stop: name => send(`/api/train/${encodeURIComponent(name)}/stop`).then(() => say('Stopping: what was learnt is kept.')),
  resume: name => send(`/api/train/${encodeURIComponent(name)}/resume`),
  use: name => send(`/api/train/${encodeURIComponent(name)}/use`).then(({model}) => {
    say(`The videos are being indexed with ${model}; the search below is its answer so far.`);
    ask({});
  }),
  compare: name => opened(`/view/compare/${encodeURIComponent(name)}`, {...state.question, label: null, queue: 'best', top_k: 8}),
  mistakes: name => opened(`/view/mistakes/${encodeURIComponent(name)}`),
  model: name => fetched(`/api/train/${encodeURIComponent(name)}/take`),
  rescan: () => send('/api/rescan').then(() => say('Looking for new videos.')),
};

side.addEventListener('click', event => {
  const button = event.target.closest('button[data-do]');
  if (!button) return;
  button.disabled = true;
  trying(async () => { await actions[button.dataset.do](button.dataset.run); })
    .finally(() => { button.disabled = false; showSide(); });
});

side.addEventListener('change', event => {
  if (event.target.id === 'model') trying(async () => {
    await send('/api/use', {model: event.target.value});
    await showSide();
    await show();
  });
});

dialog.addEventListener('close', () => { keepSaid(dialog); dialog.innerHTML = ''; });

// --- what happens meanwhile ---

let was = null;

let source;

// a page that is not seen listens to nothing: a browser opens six connections to a server, for all of its tabs
export function listen() {
  source?.close();
  if (document.hidden) return;
  source = new EventSource('/api/events');
  source.addEventListener('status', event => took(JSON.parse(event.data)));
  source.addEventListener('error', () => {
    document.body.dataset.away = 'The server does not answer';
    if (source.readyState === EventSource.CLOSED) status().then(() => setTimeout(listen, 2000), refused);
  });
  source.addEventListener('open', () => { delete document.body.dataset.away; });
}

// a server that was started again has another key: its own sentence says what to do
function refused(error) {
  if (error.status) document.body.dataset.away = error.message; else setTimeout(listen, 2000);
}

document.addEventListener('visibilitychange', listen);

function took(found) {
  const before = was;
  was = found;
  state.labels = found.labels;
  showSide();
  const other = !state.changing && state.table !== null && state.table !== (found.sha256 ?? '');  // by somebody else
  if (!state.changing) state.table = found.sha256 ?? '';
  if (!before) return;
  const indexing = status => status.jobs.filter(job => job.name.startsWith('indexing') && job.state === 'running').length;
  const more = before.moments !== found.moments || (indexing(before) && !indexing(found));
  if (more || other) {
    if (document.activeElement?.closest?.('#results, dialog')) fresh(more);  // nothing moves under somebody's hands
    else show();
  }
  for (const run of found.runs) {
    const old = before.runs.find(other => other.name === run.name);
    if (old?.state === 'running' && run.state !== 'running') say(`${run.name}: ${run.state}.`, run.state === 'failed');
  }
}

function fresh(more) {
  const summary = document.querySelector('.summary');
  if (!summary || summary.querySelector('[data-do=fresh]')) return;
  const button = Object.assign(document.createElement('button'), {type: 'button', textContent: more ? 'More is indexed: show it' : 'Labels have changed: show them'});
  button.dataset.do = 'fresh';
  summary.querySelector('.took').before(button);
}

export async function begin() {
  const found = await trying(status);
  if (found) took(found);
  listen();
}
