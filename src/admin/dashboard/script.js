'use strict';
// Asks the JSON API once a second and shows what it says. All text comes in by textContent: names
// and messages are other people's.

const EVERY_MS = 1000;
const CURVE_POINTS = 120;
// What is shown at most; a filter finds the rest.
const ROWS_MAX = 200;
const DECISIONS_MAX = 40;
const ASKED_MAX = 20;

const byId = (id) => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';
const WHY = {
  tick: 'regular look',
  poke: 'a request came at zero',
  eager: 'more requests waited than there were slots',
};
const BOUNDS = {
  'max-scale': 'max-scale: no more',
  'min-scale': 'min-scale: no fewer',
  'initial-scale': 'initial-scale, until they were ready once',
  'activation-scale': 'activation-scale: so many from zero',
  'max-scale-up-rate': 'not more at one step',
  'max-scale-down-rate': 'not fewer at one step',
  'panic-floor': 'panic: nothing is taken away',
  'scale-down-delay': 'scale-down-delay: the most of that time',
  'scale-to-zero-disabled': 'the last one stays',
  'progress-deadline': 'not ready yet: it is given its time',
  'stable-window': 'active for less than the stable window: the last one stays',
  'scale-to-zero-grace': 'the last one stays a grace period',
  'scale-to-zero-retention': 'the last one stays its retention time',
  'eager-never-lowers': 'nothing is taken away between two looks',
  'max-replicas': '--max-replicas, of all services together',
};

let token = sessionStorage.getItem('tidegate-token') || '';
let paused = false;
let timer = 0;
let round = 0;
let looking = false;
let told = false; // whether there was a round to compare with
const curves = new Map(); // revision → what it had, oldest first
let lines = []; // of decisions, as shown last
const former = new Map(); // revision → what was told of it last

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === 'class') made.className = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== ''));
  return made;
}

function drawn(name, properties) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(properties)) made.setAttribute(key, value);
  return made;
}

const idOf = (thing) => `${thing.namespace}/${thing.name}`;
const number = (value) => String(Math.round(value * 100) / 100);
const counted = (count, one) => `${count} ${one}${count === 1 ? '' : 's'}`;

function time(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}

// Tables. What has not changed is not touched, so that focus and a reader's place stay.

function table(id, columns) {
  const made = byId(id);
  made.setAttribute('role', 'table');
  const cells = columns.map((text) => element('th', { scope: 'col', role: 'columnheader' }, text));
  made.append(
    element('thead', { role: 'rowgroup' }, element('tr', { role: 'row' }, ...cells)),
    element('tbody', { role: 'rowgroup' }),
  );
  made.columns = columns;
}

// A row is {key, cells, head}: a cell is a text or {text, nodes, class}; `head` says which one names
// the row.
function fill(id, rows, empty) {
  const made = byId(id);
  const body = made.tBodies[0];
  const present = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  if (rows.length === 0) rows = [{ key: '', empty: true, cells: [empty] }];
  rows.forEach((row, at) => {
    let line = present.get(row.key);
    present.delete(row.key);
    if (!line) {
      line = element('tr', { role: 'row', 'data-key': row.key });
      row.cells.forEach((_, column) => line.append(cellOf(made, row, column)));
      if (row.fresh) line.className = 'new';
    }
    row.cells.forEach((cell, column) => {
      const { text, nodes, class: name = '' } = typeof cell === 'string' ? { text: cell } : cell;
      const place = line.cells[column];
      if (!place.shown) place.append((place.shown = element('span')));
      const stamp = text ?? nodes.stamp;
      if (place.stamp === stamp) return;
      place.stamp = stamp;
      place.shown.className = name;
      place.shown.replaceChildren(...(nodes ? nodes.make() : [text]));
    });
    if (body.rows[at] !== line) body.insertBefore(line, body.rows[at] ?? null);
  });
  for (const line of present.values()) line.remove();
}

function cellOf(made, row, column) {
  if (row.empty) return element('td', { role: 'cell', colspan: made.columns.length, class: 'empty soft' });
  if (column === row.head) return element('th', { scope: 'row', role: 'rowheader' });
  return element('td', { role: 'cell', 'data-label': made.columns[column] });
}

// The curve of a revision's load.

function curveOf(revision) {
  const id = idOf(revision);
  const curve = curves.get(id) ?? { points: [], requests: revision.requests };
  curves.set(id, curve);
  const perSecond = revision.metric === 'rps';
  const load = perSecond ? Math.max(0, revision.requests - curve.requests) : revision.in_flight;
  curve.requests = revision.requests;
  if (curve.round !== round) {
    curve.round = round;
    curve.points.push([load, revision.target * revision.ready]);
    if (curve.points.length > CURVE_POINTS) curve.points.shift();
  }
  return { points: curve.points, load, unit: perSecond ? 'a second' : 'at a time' };
}

function chart(points, label) {
  const [width, height] = [160, 36];
  const most = Math.max(1, ...points.flat());
  const x = (at) => width - ((points.length - 1 - at) * width) / (CURVE_POINTS - 1);
  const y = (value) => height - 1 - (value / most) * (height - 3);
  const line = (which) => points.map((p, at) => `${x(at).toFixed(1)},${y(p[which]).toFixed(1)}`).join(' ');
  const svg = drawn('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': label });
  const first = x(0).toFixed(1);
  svg.append(
    drawn('line', { class: 'axis', x1: 0, y1: height - 0.5, x2: width, y2: height - 0.5 }),
    drawn('polygon', { class: 'under', points: `${first},${height} ${line(0)} ${width},${height}` }),
    drawn('polyline', { class: 'target', points: line(1) }),
    drawn('polyline', { class: 'curve', points: line(0) }),
  );
  return svg;
}

// What each part shows.

function sums(services, revisions) {
  const sum = (key) => revisions.reduce((total, revision) => total + revision[key], 0);
  const values = [
    ['Services', services.length],
    ['Replicas ready', `${sum('ready')} of ${sum('desired')}`],
    ['Requests in flight', sum('in_flight')],
    ['Requests waiting', sum('waiting')],
  ];
  const list = byId('sums');
  if (!list.firstChild) {
    list.append(...values.map(([name]) => element('div', {}, element('dt', {}, name), element('dd'))));
  }
  values.forEach(([, value], at) => {
    const place = list.children[at].lastChild;
    if (place.textContent !== String(value)) place.textContent = value;
  });
}

function problems(services, revisions, rejected, conditions) {
  const list = [...conditions, ...rejected];
  for (const service of services) {
    if (service.problem) list.push(`${idOf(service)}: ${service.problem.reason}: ${service.problem.message}`);
    for (const warning of service.warnings) list.push(`${idOf(service)}: ${warning}`);
  }
  for (const revision of revisions) {
    if (revision.problem) list.push(`${idOf(revision)}: ${revision.problem.reason}: ${revision.problem.message}`);
  }
  byId('attention').hidden = list.length === 0;
  const shown = list.slice(0, ROWS_MAX);
  const stamp = shown.join('\n');
  const place = byId('problems');
  if (place.stamp === stamp) return;
  place.stamp = stamp;
  place.replaceChildren(...shown.map((text) => element('li', {}, text)));
}

function link(service) {
  const name = idOf(service);
  if (!/^https?:\/\//.test(service.url)) return [name];
  return [element('a', { href: service.url }, name)];
}

function stateOf(revision, service) {
  if (revision.problem) return ['cannot start', 'bad'];
  if (service?.problem) return [service.problem.reason, 'bad'];
  if (revision.starting > 0 && revision.ready === 0) return ['starting', 'busy'];
  if (revision.waiting > 0) return ['requests wait', 'busy'];
  if (revision.ready > 0) return ['serves', 'good'];
  return ['at zero', ''];
}

function servicesTable(services, revisions) {
  const wanted = byId('filter').value.trim().toLowerCase();
  const known = new Map(revisions.map((revision) => [idOf(revision), revision]));
  const rows = [];
  const seen = new Set();
  const add = (service, revision, share) => {
    const name = service ? idOf(service) : idOf(revision);
    if (wanted && !`${name} ${revision?.name ?? ''}`.toLowerCase().includes(wanted)) return;
    rows.push(serviceRow(service, name, revision, share));
  };
  for (const service of services) {
    const shares = new Map(service.traffic.map((target) => [target.revision, `${target.percent} %`]));
    for (const tag of service.tags) shares.set(tag.revision, `${shares.get(tag.revision) ?? '0 %'} #${tag.name}`);
    if (shares.size === 0) add(service, undefined, '');
    for (const [name, share] of shares) {
      const revision = known.get(`${service.namespace}/${name}`);
      if (revision) seen.add(idOf(revision));
      add(service, revision, share);
    }
  }
  for (const revision of revisions) {
    const lives = revision.desired + revision.ready + revision.starting + revision.stopping + revision.in_flight;
    if (!seen.has(idOf(revision)) && lives > 0) add(undefined, revision, '0 %');
  }
  fill('revisions', bounded(rows), wanted ? 'None has this in its name.' : 'There is no service.');
}

function bounded(rows) {
  if (rows.length <= ROWS_MAX) return rows;
  const more = counted(rows.length - ROWS_MAX, 'more row');
  return [...rows.slice(0, ROWS_MAX), { key: 'more', empty: true, cells: [`${more}: filter by name.`] }];
}

function serviceRow(service, name, revision, share) {
  const key = `${name} ${revision ? idOf(revision) : ''}`;
  const title = { nodes: { stamp: `${name} ${service?.url}`, make: () => (service ? link(service) : [name]) } };
  if (!revision) {
    const state = service?.problem?.reason ?? 'no revision';
    return { key, head: 0, cells: [title, '–', share || '–', '–', '–', '–', '–', { text: state, class: 'badge bad' }] };
  }
  const { points, load, unit } = curveOf(revision);
  const moving = [
    revision.starting > 0 ? `, ${revision.starting} starting` : '',
    revision.stopping > 0 ? `, ${revision.stopping} stopping` : '',
  ].join('');
  const target = `${number(load)} ${unit}, target ${number(revision.target)} a replica`;
  const [state, tone] = stateOf(revision, service);
  return {
    key,
    head: 0,
    cells: [
      title,
      revision.name,
      { text: share, class: 'n' },
      `${revision.ready} of ${revision.desired}${moving}`,
      { text: String(revision.in_flight), class: 'n' },
      { text: String(revision.waiting), class: 'n' },
      {
        nodes: {
          stamp: `${round} ${target}`,
          make: () => [chart(points, `Load: ${target}`), element('span', { class: 'soft' }, target)],
        },
      },
      { text: state, class: `badge ${tone}` },
    ],
  };
}

function decisionsTable(all) {
  const rows = [];
  for (const [id, decisions] of all) {
    let last = null;
    for (const decision of [...decisions].reverse()) {
      const same = [decision.trigger, decision.requested, decision.panic_mode, ...decision.clamps].join();
      const age = decision.age_ms / 1000;
      if (last && last.same === same) {
        last.times += decision.times;
        last.age = age;
        last.decision = decision;
      } else {
        last = { id, same, times: decision.times, age, begun: Date.now() - decision.age_ms, decision };
        rows.push(last);
      }
    }
  }
  // Of equal age the later one first.
  rows.reverse().sort((one, other) => one.age - other.age);
  const shown = rows.slice(0, DECISIONS_MAX);
  recognise(shown);
  fill('decisions', shown.map(decisionRow), 'None yet: nothing has load.');
}

// Ages come with the delay of an answer: a line of about the same beginning is the one of before.
function recognise(rows) {
  const before = lines;
  lines = [];
  for (const row of rows) {
    const name = `${row.id} ${row.same}`;
    const at = before.findIndex((line) => line.name === name && Math.abs(line.begun - row.begun) < 1000);
    const line = at < 0 ? { name, begun: row.begun, key: `${name} ${row.begun}` } : before.splice(at, 1)[0];
    lines.push(line);
    row.key = line.key;
  }
}

function decisionRow({ id, key, times, age, decision }) {
  const ordered = `${counted(decision.requested, 'replica')}`;
  const wanted = decision.desired === decision.requested ? '' : ` (the load wants ${decision.desired})`;
  const bounds = decision.clamps.map((clamp) => BOUNDS[clamp] ?? clamp).join('; ');
  return {
    key,
    head: 1,
    fresh: age < 2 && times === 1,
    cells: [
      { text: `${age < 1 ? 'just now' : `${time(age)} ago`}${times > 1 ? ` (×${times})` : ''}`, class: 'n' },
      id,
      (WHY[decision.trigger] ?? decision.trigger) + (decision.panic_mode ? ', panic' : ''),
      `${number(decision.stable)} stable, ${number(decision.panic)} panic; target ${number(decision.target)}; `
        + `${decision.ready} ready, ${decision.waiting} waiting`,
      ordered + wanted,
      bounds || '–',
    ],
  };
}

function coldTable(revisions) {
  const rows = revisions
    .filter((revision) => revision.cold_starts.count > 0)
    .slice(0, ROWS_MAX)
    .map((revision) => {
      const { count, last_s: last, phases } = revision.cold_starts;
      const means = phases.map(({ phase, total_s: total }) => [phase, total / count]);
      const words = means.map(([phase, mean]) => `${phase} ${time(mean)}`);
      return {
        key: idOf(revision),
        head: 0,
        cells: [
          idOf(revision),
          { text: String(count), class: 'n' },
          { text: last === undefined ? '–' : time(last), class: 'n' },
          { nodes: { stamp: words.join(), make: () => phaseBar(means, words) } },
        ],
      };
    });
  fill('cold', rows, 'None yet.');
}

function phaseBar(means, words) {
  const width = 160;
  const whole = means.reduce((total, [, mean]) => total + mean, 0) || 1;
  const svg = drawn('svg', { viewBox: `0 0 ${width} 8`, width, height: 8, 'aria-hidden': 'true' });
  let x = 0;
  for (const [phase, mean] of means) {
    const long = (mean / whole) * width;
    svg.append(drawn('rect', { class: `phase-${phase}`, x: x.toFixed(1), y: 0, width: long.toFixed(1), height: 8 }));
    x += long;
  }
  const texts = means.map(([phase], at) =>
    element('span', {}, element('span', { class: `key ${phase}` }), words[at], ' '));
  return [svg, ...texts];
}

function replicasTable(revisions) {
  const all = revisions.flatMap((revision) => revision.endpoints.map((endpoint) => [revision, endpoint]));
  const rows = all.map(([revision, endpoint]) => ({
    key: `${idOf(revision)} ${endpoint.id}`,
    head: 0,
    cells: [
      endpoint.id,
      idOf(revision),
      { text: endpoint.address, class: 'n' },
      { text: endpoint.state, class: `badge ${endpoint.state === 'ready' ? 'good' : 'busy'}` },
      { text: String(endpoint.in_flight), class: 'n' },
    ],
  }));
  fill('replicas', rows.slice(0, ROWS_MAX), 'None.');
}

// One sentence a round at most is read out: what changed most.
function tellChanges(revisions) {
  let text = '';
  for (const revision of revisions) {
    const id = idOf(revision);
    // One that comes later has come up from nothing.
    const before = former.get(id) ?? (told ? { desired: 0, ready: 0 } : undefined);
    const now = { desired: revision.desired, ready: revision.ready, problem: revision.problem?.reason };
    former.set(id, now);
    if (!before) continue;
    if (now.problem && now.problem !== before.problem) text = `${id} cannot start: ${now.problem}`;
    else if (now.desired !== before.desired) text ||= `${id}: ${counted(now.desired, 'replica')} wanted, before ${before.desired}`;
    else if (now.ready !== before.ready && now.ready === now.desired) text ||= `${id}: ${counted(now.ready, 'replica')} ready`;
  }
  told = true;
  if (text) byId('latest').textContent = text;
}

// Asking.

class Refused extends Error {}

async function ask(path) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { headers, cache: 'no-store', credentials: 'omit' });
  if (answer.status === 401) throw new Refused(token ? 'This token is not the one.' : 'This listener shows its state only to who has the token.');
  if (answer.status === 404 && path.endsWith('/decisions')) return { decisions: [] };
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw new Error(body.message ?? `${path}: ${answer.status}`);
  }
  return answer.json();
}

async function look() {
  round += 1;
  const [all, { revisions }] = await Promise.all([ask('api/v1/services'), ask('api/v1/revisions')]);
  const busy = (revision) => revision.in_flight + revision.desired + revision.ready + revision.starting;
  const asked = revisions.filter((revision) => busy(revision) > 0 || former.get(idOf(revision))?.desired > 0
    || revision.requests > 0);
  asked.sort((one, other) => busy(other) - busy(one));
  const decisions = await Promise.all(asked.slice(0, ASKED_MAX).map(async (revision) => [
    idOf(revision),
    (await ask(`api/v1/revisions/${encodeURIComponent(revision.namespace)}/${encodeURIComponent(revision.name)}/decisions`)).decisions,
  ]));
  sums(all.services, revisions);
  problems(all.services, revisions, all.rejected, all.conditions);
  servicesTable(all.services, revisions);
  decisionsTable(decisions);
  coldTable(revisions);
  replicasTable(revisions);
  tellChanges(revisions);
  const kept = new Set(revisions.map(idOf));
  for (const id of curves.keys()) if (!kept.has(id)) curves.delete(id);
  for (const id of former.keys()) if (!kept.has(id)) former.delete(id);
}

function state(text, tone) {
  const place = byId('state');
  if (place.textContent !== text) place.textContent = text;
  place.className = `state ${tone}`;
}

function askForToken(why) {
  const form = byId('ask');
  const first = form.hidden;
  byId('refusal').textContent = why;
  form.hidden = false;
  byId('shown').hidden = true;
  state('a token is needed', 'bad');
  if (first) byId('token').focus();
}

async function turn() {
  clearTimeout(timer);
  if (paused || document.hidden || looking) return;
  looking = true;
  let again = true;
  try {
    await look();
    byId('ask').hidden = true;
    byId('shown').hidden = false;
    byId('forget').hidden = !token;
    state('live', 'good');
  } catch (error) {
    if (error instanceof Refused) {
      askForToken(error.message);
      again = false;
    } else {
      state(error instanceof TypeError ? 'no answer; asking again' : error.message, 'bad');
    }
  }
  looking = false;
  if (again) timer = setTimeout(turn, EVERY_MS);
}

function setToken(value) {
  token = value;
  if (value) sessionStorage.setItem('tidegate-token', value);
  else sessionStorage.removeItem('tidegate-token');
}

table('revisions', ['Service', 'Revision', 'Traffic', 'Ready replicas', 'In flight', 'Waiting', 'Load', 'State']);
table('decisions', ['When', 'Revision', 'Why', 'Load', 'Ordered', 'Bounded by']);
table('cold', ['Revision', 'Starts', 'Last', 'Phases']);
table('replicas', ['Replica', 'Revision', 'Address', 'State', 'In flight']);

byId('ask').addEventListener('submit', (event) => {
  event.preventDefault();
  setToken(byId('token').value.trim());
  byId('token').value = '';
  turn();
});
byId('forget').addEventListener('click', () => {
  setToken('');
  byId('forget').hidden = true;
  turn();
});
byId('pause').addEventListener('click', () => {
  paused = !paused;
  byId('pause').setAttribute('aria-pressed', String(paused));
  if (paused) state('paused', '');
  turn();
});
byId('filter').addEventListener('input', turn);
document.addEventListener('visibilitychange', turn);
turn();
