/* Keeps a page true: hears of changes on /live, takes the page again and changes only what differs; says when the leader is another one.
   Without this script every page still works, as of the moment it was loaded. */
"use strict";
(() => {
  const body = document.body;
  const root = body.dataset.root;
  const first = { assets: body.dataset.assets, peers: body.dataset.peers };
  const $ = (id) => document.getElementById(id);
  let skew = Number(body.dataset.now) - Date.now();
  let source = null;
  let quiet = 0;          // timer: no event for too long
  let asking = 0;         // timer: the daemon does not answer, its peers are asked
  let fetching = false;
  let again = false;
  let ledHere = body.dataset.status === "ALIVE";
  // Masters known so far; a dead one's page still knows whom to ask.
  const peers = new Set(first.peers ? first.peers.split(" ") : []);

  /* Times */
  const units = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];
  function ago(ms) {
    const s = Math.floor(Math.max(0, Date.now() + skew - ms) / 1000);
    if (s < 2) return "now";
    for (const [size, name] of units) if (s >= size) return `${Math.floor(s / size)} ${name} ago`;
    return `${s} s ago`;
  }
  function lasted(ms) {
    const s = Math.floor(Math.max(0, Date.now() + skew - ms) / 1000);
    for (const [size, name, low, lowName] of units) {
      if (s >= size) {
        const rest = Math.floor((s % size) / low);
        return `${Math.floor(s / size)} ${name}` + (rest ? ` ${rest} ${lowName}` : "");
      }
    }
    return `${s} s`;
  }
  function put(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }
  function times() {
    for (const element of document.querySelectorAll("time[data-ms]")) put(element, ago(Number(element.dataset.ms)));
    for (const element of document.querySelectorAll("time[data-since]")) put(element, lasted(Number(element.dataset.since)));
  }

  /* Take over the new page, leaving alone what is the same: focus, selection and scrolling stay. */
  const nameOf = (node) => (node.nodeType === 1 ? node.dataset.key || node.id || "" : "");
  function alike(a, b) {
    return a.nodeType === b.nodeType && a.nodeName === b.nodeName && nameOf(a) === nameOf(b);
  }
  function morph(old, fresh) {
    if (old.nodeType !== 1) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    if (old === document.activeElement && old.nodeName === "INPUT") return;
    const named = new Map();
    for (const child of old.childNodes) if (nameOf(child)) named.set(nameOf(child), child);
    let at = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      const same = nameOf(child) && named.get(nameOf(child));
      if (same && alike(same, child)) {
        if (same !== at) old.insertBefore(same, at);
        else at = at.nextSibling;
        morph(same, child);
      } else if (at && alike(at, child) && !nameOf(at)) {
        const next = at.nextSibling;
        morph(at, child);
        at = next;
      } else {
        old.insertBefore(document.importNode(child, true), at);
      }
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  async function refresh() {
    if (fetching) { again = true; return; }
    fetching = true;
    try {
      const answer = await fetch(location.href.split("#")[0], { cache: "no-store" });
      const text = await answer.text();
      const page = new DOMParser().parseFromString(text, "text/html");
      const fresh = page.body.dataset;
      if (!fresh.kind) return;
      // New scripts, or a master that the security policy of this page does not know yet.
      if (fresh.assets !== first.assets || fresh.peers.split(" ").some((peer) => peer && !peers.has(peer))) {
        if (!document.querySelector("dialog[open]")) { location.reload(); return; }
      }
      skew = Number(fresh.now) - Date.now();
      document.title = page.title;
      for (const name of ["version", "status", "masters", "now"]) body.dataset[name] = fresh[name];
      if (!$("log")) morph($("main"), page.getElementById("main"));
      morph(document.querySelector("header"), page.querySelector("header"));
      times();
    } catch {
      lost();
    } finally {
      fetching = false;
      if (again) { again = false; setTimeout(refresh, 500); }
    }
  }

  /* What the page says about itself */
  const following = () => location.hash === "#follow";
  function notice(text, leader) {
    const box = $("notice");
    const key = text + (leader ? leader.web_ui : "");
    if (box.dataset.key === key) return;
    box.dataset.key = key;
    box.replaceChildren();
    box.hidden = !text;
    if (!text) return;
    box.append(text);
    if (!leader) return;
    const here = location.pathname + location.search;
    const target = leader.web_ui + (here || "/");
    if (following()) { location.assign(target + "#follow"); return; }
    const link = document.createElement("a");
    link.href = target;
    link.id = "to-leader";
    link.textContent = `Go to the leader, ${leader.name}`;
    const label = document.createElement("label");
    const box2 = document.createElement("input");
    box2.type = "checkbox";
    box2.id = "follow-leader";
    box2.addEventListener("change", () => { location.assign(target + "#follow"); });
    label.append(box2, " and always follow");
    box.append(" ", link, label);
  }
  function mark(live) {
    const element = $("live");
    element.className = live ? "on" : "off";
    put(element, live ? "live" : "not live");
  }
  function heard(said) {
    clearTimeout(quiet);
    clearInterval(asking);
    asking = 0;
    quiet = setTimeout(() => { if (source) source.close(); source = null; lost(); }, 10000);
    mark(true);
    if (body.dataset.kind === "master") {
      const leads = said.status === "ALIVE" || said.status === "RECOVERING";
      if (leads) { ledHere = true; notice(""); }
      else if (said.leader && said.leader.web_ui && (ledHere || following())) {
        notice(ledHere ? "This master does not lead any more." : "This master stands by.", said.leader);
      } else if (ledHere) notice("This master does not lead any more. The next leader is not known yet.");
    } else notice("");
    const shown = body.dataset;
    if (String(said.version) !== shown.version || said.status !== shown.status || said.masters !== shown.masters) refresh();
  }

  /* The daemon does not answer: ask the other masters who leads, and try again here. */
  function lost() {
    mark(false);
    if (asking || document.hidden) return;
    const who = body.dataset.kind === "master" ? "This master" : "This worker";
    const since = Date.now();
    const ask = async () => {
      if (!source || source.readyState === EventSource.CLOSED) listen();
      if (Date.now() - since < 900) return;
      let leader = null;
      await Promise.all([...peers].map(async (peer) => {
        try {
          const answer = await fetch(peer + "/live/leader", { signal: AbortSignal.timeout(1500), credentials: "omit", cache: "no-store" });
          const said = await answer.json();
          if (said.status === "ALIVE") leader = { name: said.name, web_ui: peer };
        } catch { /* that one does not answer either */ }
      }));
      if (!asking) return;
      notice(`${who} does not answer; this is what it said last.`, leader);
    };
    asking = setInterval(ask, 1000);
  }

  function listen() {
    if (source) source.close();
    source = new EventSource(`${root}live?since=${body.dataset.version}`);
    source.onmessage = (event) => heard(JSON.parse(event.data));
    source.onopen = () => mark(true);
    source.onerror = lost;
  }

  /* A browser keeps six connections to a server: a page in the background gives its own back. */
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      if (source) source.close();
      source = null;
      clearTimeout(quiet);
      clearInterval(asking);
      asking = 0;
    } else {
      listen();
      refresh();
    }
  });

  /* Kill buttons ask first. */
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.dataset.ask) return;
    event.preventDefault();
    const dialog = document.createElement("dialog");
    const ask = document.createElement("p");
    ask.textContent = form.dataset.ask;
    const what = document.createElement("code");
    what.textContent = form.dataset.say;
    const row = document.createElement("div");
    const no = document.createElement("button");
    no.textContent = "Cancel";
    const yes = document.createElement("button");
    yes.textContent = form.dataset.do || "Kill";
    yes.className = "danger";
    yes.id = "kill-yes";
    row.append(no, yes);
    dialog.append(ask, what, row);
    dialog.setAttribute("aria-label", form.dataset.ask);
    no.addEventListener("click", () => dialog.close());
    yes.addEventListener("click", () => { yes.disabled = true; body.append(form); form.hidden = true; form.submit(); });
    dialog.addEventListener("close", () => dialog.remove());
    body.append(dialog);
    dialog.showModal();
    no.focus();
  });

  /* The end of a log that grows */
  const follow = $("follow");
  if (follow) {
    const log = $("log");
    let end = Number(follow.dataset.end);
    let decoder = new TextDecoder();
    let timer = 0;
    const more = async () => {
      try {
        const answer = await fetch(`${follow.dataset.from}&offset=${end}&byteLength=1048576`, { cache: "no-store" });
        const begin = Number(answer.headers.get("X-Log-Begin"));
        if (answer.ok && begin === end) {
          const bytes = await answer.arrayBuffer();
          if (bytes.byteLength) {
            if ($("log-empty")) $("log-empty").remove();
            log.hidden = false;
            // eslint-disable-next-line no-control-regex
            log.append(decoder.decode(bytes, { stream: true }).replace(/\x1b\[[0-9;?]*[ -/]*[@-~]/g, ""));
            if (log.textContent.length > 2e6) log.textContent = log.textContent.slice(-1e6);
            log.scrollTop = log.scrollHeight;
            end = Number(answer.headers.get("X-Log-End"));
          }
        } else if (answer.ok) { location.reload(); return; } // rotated: it begins anew
      } catch { /* the next round may work */ }
      if (follow.checked) timer = setTimeout(more, 1000);
    };
    follow.addEventListener("change", () => { clearTimeout(timer); if (follow.checked) { log.scrollTop = log.scrollHeight; more(); } });
    log.scrollTop = log.scrollHeight;
  }

  times();
  setInterval(times, 1000);
  // Heartbeats and the lease are on the page too, and are no change that is told.
  setInterval(() => { if (!document.hidden && source && source.readyState === EventSource.OPEN) refresh(); }, 20000);
  if (!document.hidden) listen();
})();
