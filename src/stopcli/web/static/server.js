// what is asked of the server; a refusal becomes an error with the server's own sentence

async function checked(response) {
  if (response.ok) return response;
  let message = `the server answers ${response.status}`;
  try { message = (await response.json()).message || message; } catch { /* no JSON: keep the number */ }
  throw new Error(message);
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
