// the page: the search field, the keys, what a click on a moment does
import {fetched, send, sendPicture} from './server.js';
import {ask, keepSaid, on, say, state, trying, typing, untouched} from './state.js';
import {cards, current, focus, move, place, show, toggle} from './grid.js';
import * as look from './look.js';
import {accept, digit, give, NONE, numberOf, showSide, undo} from './label.js';
import {begin} from './adapt.js';

const form = document.getElementById('search');
const field = document.getElementById('query');
const help = document.getElementById('help');
const chips = document.getElementById('chips');
const filters = document.getElementById('filters');
const compared = document.getElementById('compare');

// --- the question ---

on('question', async () => {
  drawChips();
  history.replaceState(null, '', state.question.query ? `/?q=${encodeURIComponent(state.question.query)}` : '/');
  await show({keep: true});
  if (document.activeElement === document.body) focus(cards()[0]);
});

on('unreadable', () => { state.question.picture = null; drawChips(); });

function filterValues() {
  const values = {};
  for (const name of ['min_duration', 'max_duration', 'per_file', 'min_confidence']) {
    const text = form.elements[name].value;
    values[name] = text === '' ? (name === 'min_confidence' ? 0 : null) : +text;
  }
  values.glob = form.elements.glob.value || null;
  values.unlike = form.elements.unlike.value.trim() ? [form.elements.unlike.value] : [];
  values.fold = form.elements.fold.checked;
  const set = values.glob || values.unlike.length || !values.fold || values.min_confidence
    || values.min_duration !== null || values.max_duration !== null || values.per_file !== null;
  filters.classList.toggle('set', Boolean(set));
  filters.querySelector('summary').textContent = set ? 'Filters: on' : 'Filters';
  return values;
}

function clearFilters() {
  for (const box of filters.querySelectorAll('input')) { if (box.type === 'checkbox') box.checked = true; else box.value = ''; }
  filters.open = false;
  ask(filterValues());
}

form.addEventListener('invalid', () => { filters.open = true; }, true);  // its message would be seen by nobody
form.addEventListener('submit', event => {
  event.preventDefault();
  filters.open = false;
  ask({...filterValues(), query: field.value, label: null, queue: 'best', top_k: 24});
  showSide();
  document.activeElement.blur();
});
field.addEventListener('search', () => { if (!field.value) ask({query: ''}); });

function chip(kind, words, remove) {
  const box = document.createElement('span');
  box.className = `chip ${kind}`;
  box.append(Object.assign(document.createElement('span'), {textContent: words}));
  const button = Object.assign(document.createElement('button'), {type: 'button', textContent: '×'});
  button.setAttribute('aria-label', `Remove ${words}`);
  button.addEventListener('click', remove);
  box.append(button);
  return box;
}

function drawChips() {
  const {like, unlike_moments, picture} = state.question;
  chips.replaceChildren(
    ...(picture ? [chip('like', state.names[picture], () => ask({picture: null}))] : []),
    ...like.map(id => chip('like', `and like ${state.names[id]}`, () => ask({like: like.filter(x => x !== id)}))),
    ...unlike_moments.map(id => chip('not', `not ${state.names[id]}`,
      () => ask({unlike_moments: unlike_moments.filter(x => x !== id)}))),
  );
}

function nameOf(card) { return card.querySelector('.name')?.textContent ?? 'a moment'; }

function more(card) {
  compared.close();  // the answer is not in it
  state.names[card.dataset.id] = nameOf(card);
  const {like} = state.question;
  ask({like: [...new Set([...like, card.dataset.id])].slice(-20), label: null, queue: 'best'});
}

function not(card) {
  state.names[card.dataset.id] = nameOf(card);
  const {unlike_moments, query, like, picture} = state.question;
  if (!query.trim() && !like.length && !picture) return say('Search for something first: “not this” narrows a search.', true);
  compared.close();
  ask({unlike_moments: [...new Set([...unlike_moments, card.dataset.id])].slice(-50), label: null, queue: 'best'});
}

// --- pictures ---

async function usePicture(file) {
  if (!file?.type.startsWith('image/')) return say('That is no picture; for a moment of a video, use “More like this”.', true);
  await trying(async () => {
    const {picture} = await sendPicture(file);
    state.names[picture] = file.name || 'picture';
    ask({picture, label: null, queue: 'best'});
  });
}
document.getElementById('picture').addEventListener('change', event => {
  usePicture(event.target.files[0]);
  event.target.value = '';
});
const drop = document.getElementById('drop');
addEventListener('dragover', event => { event.preventDefault(); drop.hidden = false; });
addEventListener('dragleave', event => { if (!event.relatedTarget) drop.hidden = true; });
addEventListener('drop', event => { event.preventDefault(); drop.hidden = true; usePicture(event.dataTransfer.files[0]); });
addEventListener('paste', event => { if (event.clipboardData?.files[0]) usePicture(event.clipboardData.files[0]); });

// --- moments ---

document.addEventListener('click', event => {
  const card = event.target.closest('.card');
  const what = event.target.closest('[data-do]')?.dataset.do;
  if (card && what === 'more') more(card);
  else if (card && what === 'not') not(card);
  else if (card && what === 'accept') give(card, card.dataset.suggestion);
  else if (card && (what === 'look' || event.target.closest('.screen'))) { card.focus(); look.open(card); }
  else if (what === 'take') take(event.target.closest('.take'));
  else if (what === 'further') further();
  else if (what === 'redraw') trying(async () => { await send('/api/audit', state.question); await show(); });
  else if (what === 'fresh') show();
  else if (what === 'clear') clearFilters();
});

async function further() {
  const count = cards().length, still = untouched();
  state.question.top_k = Math.min(500, state.question.top_k + 24);
  await show();
  if (still()) focus(cards()[count]);
}

async function take(form) {
  await trying(async () => {
    const chosen = cards().filter(card => form.querySelector('[name=unsure]').checked || !card.dataset.unsure);
    if (!chosen.length) throw new Error('none of these is sure; tick “less sure ones, too” to download them');
    const learnt = state.question.label !== null || state.question.queue !== 'best';
    const shown = Object.fromEntries(chosen.map(({dataset}) => [dataset.id, {
      name: learnt && state.question.label === null ? dataset.suggestion : '', score: Number(dataset.score),
      confidence: dataset.confidence === undefined ? null : Number(dataset.confidence),
    }]));
    say('Writing …', false, true);
    const name = state.question.label ?? state.question.query;
    const {lacking} = await fetched('/api/take', {
      moments: chosen.map(card => card.dataset.id), kind: form.querySelector('select').value, name, shown,
    });
    const count = chosen.length === 1 ? 'one moment' : `${chosen.length} moments`;
    say(lacking ? `Downloaded, but ${lacking}` : `Downloaded: ${count}.`, Boolean(lacking));
  });
}

// --- keys ---

document.addEventListener('keydown', event => {
  // some keyboards type brackets with Alt, or AltGr
  const bracket = look.isOpen() && !event.metaKey && (event.key === '[' || event.key === ']');
  if ((event.ctrlKey || event.metaKey || event.altKey) && !bracket || event.isComposing) return;
  if (event.repeat && !event.key.startsWith('Arrow')) return;  // a key that is held gives one label
  if (typing(event.target)) {
    if (event.key === 'Escape') { event.target.blur(); filters.open = false; }
    if (event.key === '/' && event.target === field && !field.value) event.preventDefault();  // it is where one wants to be
    return;
  }
  const pressed = event.target.closest?.('button, a, summary, input') && (event.key === 'Enter' || event.key === ' ');
  if (pressed || help.open) return;
  if (look.isOpen()) {
    if (event.target.tagName === 'VIDEO' && event.key === ' ') return;  // its own controls do it
    if (look.key(event)) event.preventDefault();
    return;
  }
  const card = current();
  const known = {
    Escape: () => { const dialog = document.querySelector('dialog[open]'); if (dialog) dialog.close(); else filters.open = false; },
    '/': () => { field.focus(); field.select(); },
    '?': () => help.showModal(),
    Enter: () => card && look.open(card),
    ' ': () => card && toggle(card),
    m: () => card && more(card),
    n: () => card && not(card),
    x: () => give(card, NONE),
    u: undo,
    a: accept,
    ArrowLeft: () => move(event.key), ArrowRight: () => move(event.key),
    ArrowUp: () => move(event.key), ArrowDown: () => move(event.key),
  }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (known) { event.preventDefault(); known(); }
  else if (numberOf(event)) { event.preventDefault(); digit(numberOf(event)); }
});

document.getElementById('help-button').addEventListener('click', () => help.showModal());
for (const dialog of document.querySelectorAll('dialog')) {
  dialog.addEventListener('click', event => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener('close', () => keepSaid(dialog));
}

// --- begin ---

const {label, side} = document.body.dataset;
const query = new URLSearchParams(location.search).get('q') ?? document.body.dataset.query;
field.value = query;
Object.assign(state.question, {query, label: side === 'label' && label && !query ? label : null});
begin();
show().then(() => { if (document.activeElement === document.body) focus(cards(place())[0]); });
