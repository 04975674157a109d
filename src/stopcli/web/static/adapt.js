// training: begun, watched, stopped, used, compared
import {piece, send, status} from './server.js';
import {ask, say, state, tell, trying} from './state.js';
import {showSide} from './label.js';
import {cards, focus, show} from './grid.js';

const side = document.getElementById('side');
const dialog = document.getElementById('compare');

function settings() {
  const epochs = side.querySelector('#epochs')?.value;
  return epochs ? {epochs: +epochs} : {};
}

const actions = {
  train: () => send('/api/train', settings()).then(run => say(`${run.name} is being trained; it goes on without this page.`)),
  stop: name => send(`/api/train/${name}/stop`).then(() => say('Stopping: what was learnt is kept.')),
  resume: name => send(`/api/train/${name}/resume`),
  use: name => send(`/api/train/${name}/use`).then(({model}) => {
    say(`The videos are being indexed with ${model}; the search below is its answer so far.`);
    ask({});
  }),
  compare: async name => {
    dialog.innerHTML = await piece(`/view/compare/${name}`, {...state.question, label: null, queue: 'best', top_k: 8});
    dialog.showModal();
    focus(cards(dialog)[0]);
  },
  mistakes: async name => {
    dialog.innerHTML = await piece(`/view/mistakes/${name}`);
    dialog.showModal();
    focus(cards(dialog)[0]);
  },
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

dialog.addEventListener('close', () => { dialog.innerHTML = ''; });

// --- what happens meanwhile ---

let was = null;

export function listen() {
  const source = new EventSource('/api/events');
  source.addEventListener('status', event => took(JSON.parse(event.data)));
  source.addEventListener('error', () => {
    document.body.classList.add('away');
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  });
  source.addEventListener('open', () => document.body.classList.remove('away'));
}

function took(found) {
  const before = was;
  was = found;
  state.labels = found.labels;
  state.status = found;
  showSide();
  if (!before) return;
  const busy = status => status.jobs.filter(job => job.state === 'running' || job.state === 'waiting').length;
  if (before.moments !== found.moments || (busy(before) && !busy(found))) show({keep: true});
  for (const run of found.runs) {
    const old = before.runs.find(other => other.name === run.name);
    if (old?.state === 'running' && run.state !== 'running') say(`${run.name}: ${run.state}.`, run.state === 'failed');
  }
  tell('status', found);
}

export async function begin() {
  const found = await trying(status);
  if (found) took(found);
  listen();
}
