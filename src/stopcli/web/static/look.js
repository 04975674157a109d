// one moment, looked at: the player, the scores over time, the start and the end
import {piece} from './server.js';
import {state, trying} from './state.js';
import {give, NONE, showSide} from './label.js';
import {show} from './grid.js';

const dialog = document.getElementById('look');
let look, video, from, start, end, duration, rate, back;

const clock = seconds => {
  const whole = Math.floor(seconds), minutes = Math.floor(whole / 60) % 60, hours = Math.floor(whole / 3600);
  const rest = `${String(whole % 60).padStart(2, '0')}.${Math.floor(10 * (seconds - whole))}`;
  return hours ? `${hours}:${String(minutes).padStart(2, '0')}:${rest}` : `${minutes}:${rest}`;
};
export const isOpen = () => dialog.open;
const now = () => from + video.currentTime;

export async function open(card) {
  if (!card) return;
  back = card;
  await trying(async () => {
    dialog.innerHTML = await piece(`/view/look/${card.dataset.id}`);
    look = dialog.querySelector('.look');
    video = dialog.querySelector('.stage video');
    // a file plays by its own clock, a copy from where it was cut
    from = look.dataset.way === 'file' ? 0 : +look.dataset.from;
    [start, end] = [+look.dataset.start, +look.dataset.end];
    [duration, rate] = [+look.dataset.duration, +look.dataset.rate || 25];
    wire();
    if (!dialog.open) dialog.showModal();
    look.querySelector('.ruler').focus();
    mark();
  });
}

function wire() {
  const waiting = dialog.querySelector('.waiting'), cannot = dialog.querySelector('.cannot');
  waiting.hidden = look.dataset.way === 'file';
  video.addEventListener('loadedmetadata', () => { video.currentTime = Math.max(0, start - from); });
  video.addEventListener('canplay', () => { waiting.hidden = true; video.play().catch(() => {}); }, {once: true});
  video.addEventListener('loadeddata', () => { if (!video.videoWidth) failed(); });
  video.addEventListener('error', failed);
  video.addEventListener('timeupdate', () => {
    mark();
    if (!video.paused && now() >= end && now() < end + 1) video.currentTime = Math.max(0, start - from);
  });
  const ruler = dialog.querySelector('.ruler');
  ruler.addEventListener('pointerdown', event => {
    const box = ruler.getBoundingClientRect();
    seek(duration * (event.clientX - box.left) / box.width, true);
  });
  function failed() {
    waiting.hidden = true;
    if (look.dataset.way !== 'encoded' && !look.dataset.tried) {
      // the browser knows less than expected: ask for a copy
      look.dataset.tried = 'yes';
      from = Math.max(0, start - 15);
      video.src = `/media/${look.dataset.file}/copy?start=${from.toFixed(3)}&end=${Math.min(duration, end + 15).toFixed(3)}&encode=1`;
      waiting.hidden = false;
      return;
    }
    cannot.hidden = false;
  }
}

function seek(seconds, free = false) {
  video.currentTime = Math.min(video.duration || duration, Math.max(0, seconds - from));
  if (free && (seconds < start || seconds > end)) video.pause();
  mark();
}

function mark() {
  const at = Math.min(duration, now()), share = 100 / Math.max(duration, 1e-6);
  const span = dialog.querySelector('.span');
  span.style.left = `${start * share}%`;
  span.style.width = `${Math.max(.3, (end - start) * share)}%`;
  dialog.querySelector('.now').style.left = `${at * share}%`;
  dialog.querySelector('.clock').textContent = clock(at);
  dialog.querySelector('.ruler').setAttribute('aria-valuenow', at.toFixed(2));
  dialog.querySelector('.from').textContent = clock(start);
  dialog.querySelector('.to').textContent = clock(end);
}

function chosen() {
  const id = `${look.dataset.file}-${Math.round(1000 * start)}-${Math.round(1000 * end)}`;
  const link = dialog.querySelector('a[download]');
  link.href = `/media/${look.dataset.file}/clip?start=${start.toFixed(3)}&end=${end.toFixed(3)}`;
  return {dataset: {id}, closest: () => null, classList: {add() {}}};
}

async function label(name) {
  await give(chosen(), name);
  await show({keep: true});
  close();
}

export function close() {
  dialog.close();
}

export function key(event) {
  const step = event.shiftKey ? 1 : 1 / rate;
  const known = {
    ' ': () => video.paused ? video.play() : video.pause(),
    k: () => video.pause(),
    l: () => { video.playbackRate = video.paused ? 1 : Math.min(4, 2 * video.playbackRate); video.play(); },
    j: () => { video.playbackRate = 1; seek(now() - 1); },
    ArrowRight: () => { video.pause(); seek(now() + step); },
    ArrowLeft: () => { video.pause(); seek(now() - step); },
    '[': () => { start = Math.min(now(), duration); if (end <= start) end = Math.min(duration, start + 1); mark(); chosen(); },
    ']': () => { end = now(); if (end <= start) start = Math.max(0, end - 1); mark(); chosen(); },
    x: () => label(NONE),
  }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  const digit = /^[1-9]$/.test(event.key) && state.labels[+event.key - 1];
  if (known) known(); else if (digit) label(digit); else return false;
  return true;
}

dialog.addEventListener('click', event => {
  if (event.target === dialog) return close();
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.give !== undefined) label(button.dataset.give || NONE);
  else if (button.dataset.do === 'mark-start') key({key: '['});
  else if (button.dataset.do === 'mark-end') key({key: ']'});
  else if (button.dataset.do === 'explain') explain(button);
});

async function explain(button) {
  button.disabled = true;
  const place = dialog.querySelector('.explained');
  place.textContent = 'Looking …';
  const html = await trying(() => piece(`/view/explain/${chosen().dataset.id}`));
  place.innerHTML = html ?? '';
  button.disabled = false;
  place.scrollIntoView({block: 'nearest'});
}

dialog.addEventListener('click', event => {
  const link = event.target.closest('a[data-at]');
  if (link) { event.preventDefault(); seek(+link.dataset.at, true); video.scrollIntoView({block: 'nearest'}); }
});

dialog.addEventListener('close', () => {
  dialog.innerHTML = '';  // the player lets go of the file
  showSide();
  if (back?.isConnected) back.focus();
});
