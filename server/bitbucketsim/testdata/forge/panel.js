// The page of an app, on the real @forge/bridge. What it sees it writes down, for the test to read.
import { events, invokeRemote, requestRemote, router, showFlag, view } from '@forge/bridge';

const saw = document.getElementById('saw');
const note = (name, value) => {
  const entry = document.createElement('dd');
  entry.id = name;
  entry.textContent = JSON.stringify(value) ?? 'undefined';
  saw.append(entry);
};
const outcome = async (name, promise) => {
  try {
    note(name, await promise);
  } catch (error) {
    note(name, { rejected: error.message });
  }
};
const click = (id, act) => document.getElementById(id).addEventListener('click', act);

await view.theme.enable();
note('mode', document.documentElement.dataset.colorMode);
await outcome('context', view.getContext());
const ask = (body) => invokeRemote({ path: '/graphql', method: 'POST', headers: { 'x-probe': 'yes' }, body });
await outcome('good', ask({ say: 'good' }));
await outcome('bad', ask({ say: 'bad' }));
await outcome('unreadable', ask({ say: 'unreadable' }));
await outcome('direct', requestRemote('backend', { path: '/direct', method: 'POST', body: '{"say":"direct"}' }).then((r) => r.json()));
await events.on('told', (payload) => note('told', payload));
note('credentials', document.featurePolicy.allowsFeature('publickey-credentials-get'));
note('cookies', document.cookie);

click('open', () => outcome('opened', router.open('http://localhost:1/elsewhere').then(() => 'opened')));
click('stay', () => router.navigate('/acme/rocket'));
click('flag', () => showFlag({ id: 'one', title: 'Saved', description: 'It is done.', type: 'success' }));
click('tell', () => events.emit('told', { by: 'a frame' }));
click('popup', () => note('popped', window.open('/forge-bridge.js') === null ? 'blocked' : 'opened'));
note('ready', true);
