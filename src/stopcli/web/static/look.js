// one moment, looked at: the player, the scores over time, the start and the end
import {piece} from './server.js';
import {keepSaid, trying, untouched} from './state.js';
import {giveMoment, labelOf, NONE, numberOf, showSide, undo} from './label.js';
import {cards, show} from './grid.js';

const dialog = document.getElementById('look');
let muted = true;
let look, video, from, until, start, end, duration, rate, back, at;

const clock = seconds => {
  const whole = Math.floor(seconds), minutes = Math.floor(whole / 60) % 60, hours = Math.floor(whole / 3600);
  const rest = `${String(whole % 60).padStart(2, '0')}.${Math.floor(10 * (seconds - whole))}`;
  return hours ? `${hours}:${String(minutes).padStart(2, '0')}:${rest}` : `${minutes}:${rest}`;
};
export const isOpen = () => dialog.open;
const now = () => video.readyState ? from + video.currentTime : at;  // or where it will begin

export async function open(card) {
  if (!card) return;
  const wanted = untouched();
  await trying(async () => {
    const html = await piece(`/view/look/${card.dataset.id}`);
    if (!wanted()) return;  // another one was asked for, or something else is done
    back = card;
    keepSaid(dialog);
    dialog.innerHTML = html;
    look = dialog.querySelector('.look');
    video = dialog.querySelector('.stage video');
    video.muted = muted;  // who wants to hear it says so once
    video.addEventListener('volumechange', () => { ({muted} = video); });
    // a file plays by its own clock, a copy from where it was cut
    [from, until] = [+look.dataset.from, +look.dataset.until];
    at = Math.max(0, +look.dataset.start);
    [start, end] = [+look.dataset.start, +look.dataset.end];
    [duration, rate] = [+look.dataset.duration, +look.dataset.rate || 25];
    wire();
    load();
    if (!dialog.open) dialog.showModal();
    look.querySelector('.ruler').focus();
    mark();
  });
}

// a file plays by its own clock, a copy from where it was cut
function load(encode = false) {
  const file = `/media/${look.dataset.file}`;
  dialog.querySelector('.waiting').hidden = look.dataset.way === 'file' && !encode;
  if (look.dataset.way === 'file' && !encode) { video.src = `${file}/file`; return; }
  video.src = `${file}/copy?start=${from.toFixed(3)}&end=${until.toFixed(3)}${encode ? '&encode=1' : ''}`;
}

function wire() {
  const waiting = dialog.querySelector('.waiting'), cannot = dialog.querySelector('.cannot');
  video.addEventListener('loadedmetadata', () => { video.currentTime = Math.max(0, at - from); });
  video.addEventListener('canplay', () => {
    if (waiting.dataset.seen !== video.src) video.play().catch(() => {});
    waiting.dataset.seen = video.src;
    waiting.hidden = true;
  });
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
      look.dataset.tried = look.dataset.way = 'encoded';
      [from, until] = duration > 120 ? [Math.max(0, at - 30), Math.min(duration, Math.max(at, Math.min(end, at + 90)) + 30)] : [0, duration];
      load(true);
      return;
    }
    cannot.hidden = false;
  }
}

function seek(seconds, free = false) {
  at = Math.min(duration, Math.max(0, seconds));
  if (look.dataset.way !== 'file' && (seconds < from || seconds > until)) {
    // a copy is of a stretch: get the one that is wanted
    [from, until] = [Math.max(0, seconds - 30), Math.min(duration, seconds + 30)];
    load(Boolean(look.dataset.tried));
    return;
  }
  if (video.readyState) video.currentTime = Math.min(video.duration || duration, Math.max(0, seconds - from));
  if (free && (seconds < start || seconds > end)) video.pause();
  mark();
}

function mark() {
  if (!dialog.querySelector('.span')) return;  // it has been closed
  const here = Math.min(duration, now()), share = 100 / Math.max(duration, 1e-6);
  const span = dialog.querySelector('.span');
  span.style.left = `${start * share}%`;
  span.style.width = `${Math.max(.3, (end - start) * share)}%`;
  dialog.querySelector('.now').style.left = `${here * share}%`;
  dialog.querySelector('.clock').textContent = clock(here);
  dialog.querySelector('.ruler').setAttribute('aria-valuenow', here.toFixed(2));
  dialog.querySelector('.ruler').setAttribute('aria-valuetext', `${clock(here)} of ${clock(duration)}`);
  dialog.querySelector('.from').textContent = clock(start);
  dialog.querySelector('.to').textContent = clock(end);
}

function chosen() {
  const id = `${look.dataset.file}-${Math.round(1000 * start)}-${Math.round(1000 * end)}`;
  const link = dialog.querySelector('a[download]');
  link.href = `/media/${look.dataset.file}/clip?start=${start.toFixed(3)}&end=${end.toFixed(3)}`;
  return id;
}

async function label(name) {
  const moment = chosen(), card = back;
  if (!name || !await giveMoment(moment, name, look.dataset.labelled ? look.dataset.id : moment)) return;
  if (card.closest('#results')) card.dataset.taken = 'yes';  // until the grid moves on
  close();
  await show({keep: true});
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
    '[': () => { start = Math.max(0, Math.min(now(), duration - 1 / rate)); if (end <= start) end = Math.min(duration, start + 1); mark(); chosen(); },
    ']': () => { end = Math.min(now(), duration); if (end <= start) start = Math.max(0, end - 1); mark(); chosen(); },
    x: () => label(NONE),
    u: undo,
  }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (known) known(); else if (numberOf(event)) label(labelOf(numberOf(event))); else return false;
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
  if (button.dataset.busy) return;
  button.dataset.busy = 'yes';
  const place = dialog.querySelector('.explained');
  place.textContent = 'Looking …';
  const moment = chosen();
  for (let job = ''; job !== undefined && place.isConnected;) {
    const html = await trying(() => piece(`/view/explain/${moment}?${new URLSearchParams({job})}`));
    place.innerHTML = html ?? '';
    job = place.querySelector('[data-job]')?.dataset.job;  // it waits for its turn
  }
  delete button.dataset.busy;
  place.scrollIntoView({block: 'nearest'});
}

dialog.addEventListener('click', event => {
  const link = event.target.closest('a[data-at]');
  if (link) { event.preventDefault(); seek(+link.dataset.at, true); video.scrollIntoView({block: 'nearest'}); }
});

dialog.addEventListener('close', () => {
  keepSaid(dialog);
  video?.removeAttribute('src');  // the player lets go of the file
  video?.load();
  dialog.innerHTML = '';
  showSide();
  const again = back?.isConnected ? back : cards().find(card => card.dataset.id === back?.dataset.id) ?? cards()[0];
  again?.focus();
});
