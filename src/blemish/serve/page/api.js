// Requests to the service. Everything that changes something carries the session's CSRF value.

let csrf = "";

export class ServiceError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export async function ask(path, { method = "GET", body = undefined } = {}) {
  const headers = { Accept: "application/json" };
  const isForm = body instanceof FormData;
  if (body !== undefined && !isForm) headers["Content-Type"] = "application/json";
  if (csrf) headers["X-Blemish-CSRF"] = csrf;
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined || isForm ? body : JSON.stringify(body), credentials: "same-origin" });
  } catch {
    throw new ServiceError(0, "unreachable", "unreachable");
  }
  if (answer.status === 204) return null;
  const data = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const error = data.error || { code: "error", message: `${answer.status}` };
    if (answer.status === 401) document.dispatchEvent(new Event("logged-out"));
    throw new ServiceError(answer.status, error.code, error.message);
  }
  return data;
}

export async function session() {
  const found = await ask("/v1/session");
  csrf = found.csrf || "";
  return found;
}

export async function logIn(token) {
  const found = await ask("/v1/session", { method: "POST", body: { token } });
  csrf = found.csrf || "";
  return found;
}

export async function logOut() {
  await ask("/v1/session", { method: "DELETE" });
  csrf = "";
}

// A query of the filters that are set; a list gives its key several times.
export function query(filters) {
  const parts = new URLSearchParams();
  for (const [key, value] of Object.entries(filters)) {
    for (const each of Array.isArray(value) ? value : [value]) if (each !== "" && each !== null && each !== undefined) parts.append(key, each);
  }
  const text = parts.toString();
  return text ? `?${text}` : "";
}
