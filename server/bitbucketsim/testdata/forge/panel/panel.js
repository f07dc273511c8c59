// A page as an app would have it, on the bare bridge.
const bridge = globalThis.__bridge;
const answer = document.getElementById('answer');
await_(bridge.callBridge('getContext'), (c) => {
  document.getElementById('where').textContent = `${c.moduleKey} ${JSON.stringify(c.extension)} ${c.accountId}`;
});
function await_(promise, then) { return promise.then(then, (e) => { answer.textContent = `error: ${e.message}`; }); }
bridge.callBridge('enableTheming');
bridge.callBridge('invoke', { path: '/graphql', method: 'POST', body: { query: '{ viewer }' }, invokeType: 'ui-remote-fetch' })
  .then((r) => { answer.textContent = JSON.stringify(r); }, (e) => { answer.textContent = `error: ${e.message}`; });
