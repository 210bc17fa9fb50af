// The typed name, kept by the browser until it is closed: a reload need not ask again. The server reads it as a cookie.

/** @param {{ data: { cookie: string, name: string } }} given */
export default function ({ data }) {
  const ends = data.name ? "" : "; Max-Age=0";
  document.cookie = `${data.cookie}=${encodeURIComponent(data.name)}; Path=/; SameSite=Strict${ends}`;
}
