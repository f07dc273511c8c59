// The bridge between the page of a Forge app and the page around it. It is put before the app's own scripts and
// offers what @forge/bridge expects to find: globalThis.__bridge.callBridge(command, payload).
(() => {
  const host = '{{.Host}}';
  const themed = {{.Theme}};
  const calls = new Map();
  const listeners = new Map();
  let last = 0;

  // Only data crosses; functions stay here.
  const plain = (value) => (value === undefined ? undefined : JSON.parse(JSON.stringify(value)));
  const post = (message) => window.parent.postMessage({ forge: true, ...message }, host);
  const ask = (command, payload) =>
    new Promise((resolve, reject) => {
      last += 1;
      calls.set(last, { resolve, reject });
      post({ call: last, command, payload: plain(payload) });
    });

  const applyTheme = (mode) => {
    const root = document.documentElement;
    root.dataset.theme = 'light:light dark:dark spacing:spacing typography:typography shape:shape motion:motion';
    root.dataset.colorMode = mode;
    if (themed && !document.getElementById('forge-theme')) {
      const sheet = document.createElement('link');
      sheet.id = 'forge-theme';
      sheet.rel = 'stylesheet';
      sheet.href = '/forge-theme.css';
      document.head.append(sheet);
    }
  };

  const subscribe = async (command, { event, callback }) => {
    last += 1;
    const subscription = last;
    listeners.set(subscription, callback);
    await ask(command, { event, subscription });
    return {
      unsubscribe: () => {
        listeners.delete(subscription);
        return ask('off', { subscription });
      },
    };
  };

  // The token of a direct call is used again until it is about to die.
  const remotes = new Map();
  const fetchRemote = async ({ remoteKey, fetchRequestInit }) => {
    let remote = remotes.get(remoteKey);
    if (!remote || remote.expires < Date.now() + 2000) {
      remote = await ask('remoteToken', { remoteKey });
      remotes.set(remoteKey, remote);
    }
    const { path, headers, ...init } = fetchRequestInit;
    const all = new Headers(headers);
    all.set('authorization', `Bearer ${remote.token}`);
    const response = await fetch(new URL(path, remote.baseUrl), { ...init, body: init.body ?? undefined, headers: all, credentials: 'omit' });
    return {
      body: await response.text(),
      headers: Object.fromEntries(response.headers),
      status: response.status,
      statusText: response.statusText,
    };
  };

  const callBridge = (command, payload) => {
    switch (command) {
      case 'on':
      case 'onPublic':
        return subscribe(command, payload);
      case 'fetchRemote':
        return fetchRemote(payload);
      case 'enableTheming':
        return ask(command).then(applyTheme);
      default:
        return ask(command, payload);
    }
  };

  window.addEventListener('message', (event) => {
    const message = event.data;
    if (event.source !== window.parent || event.origin !== host || !message?.forge) return;
    if (message.reply) {
      const call = calls.get(message.reply);
      calls.delete(message.reply);
      if (message.error === undefined) call?.resolve(message.value);
      else call?.reject(new Error(message.error));
    } else if (message.subscription) {
      listeners.get(message.subscription)?.(message.payload);
    } else if (message.theme) {
      applyTheme(message.theme);
    }
  });

  // The page around grows with the content.
  new ResizeObserver(() => {
    post({ height: Math.ceil(document.documentElement.getBoundingClientRect().height) });
  }).observe(document.documentElement);

  Object.defineProperty(globalThis, '__bridge', { value: Object.freeze({ callBridge }) });
})();
