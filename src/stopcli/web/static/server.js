// what is asked of the server; a refusal becomes an error with the server's own sentence

async function checked(response) {
  if (response.ok) return response;
  let message = `the server answers ${response.status}`;
  try { message = (await response.json()).message || message; } catch { /* no JSON: keep the number */ }
  throw Object.assign(new Error(message), {status: response.status});
}

export async function send(path, body) {
  const response = await fetch(path, {
    method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body ?? {}),
  });
  return (await checked(response)).json();
}

export async function piece(path, body) {
  const how = body === undefined ? {} : {
    method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body),
  };
  return (await checked(await fetch(path, how))).text();
}

export async function sendPicture(file) {
  return (await checked(await fetch('/api/picture', {method: 'POST', body: file}))).json();
}

export async function status() {
  return (await checked(await fetch('/api/status'))).json();
}

// something that is written as heavy work, and then downloaded
export async function fetched(path, body) {
  let job = await send(path, body);
  while (job.state === 'waiting' || job.state === 'running') {
    await new Promise(done => setTimeout(done, 200));
    const jobs = await (await checked(await fetch('/api/jobs'))).json();
    job = jobs.find(other => other.id === job.id) ?? {state: 'gone', words: 'the server knows nothing of it any more'};
  }
  if (job.state !== 'done') throw new Error(job.words || 'it was stopped');
  const link = Object.assign(document.createElement('a'), {href: `/taken/${encodeURIComponent(job.result.file)}`, download: ''});
  document.body.append(link);
  link.click();
  link.remove();
  return job.result;
}
