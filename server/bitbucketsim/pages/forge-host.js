// The page around the frames of Forge apps: it answers their bridges.
(() => {
  const frames = [...document.querySelectorAll('iframe[data-forge-frame]')].map((element) => ({
    element,
    id: element.dataset.forgeFrame,
    app: element.dataset.forgeApp,
    origin: new URL(element.src).origin,
    subscriptions: [],
    themed: false,
  }));
  const dark = window.matchMedia('(prefers-color-scheme: dark)');
  const colorMode = () => (dark.matches ? 'dark' : 'light');
  const send = (frame, message) => frame.element.contentWindow?.postMessage({ forge: true, ...message }, frame.origin);
  dark.addEventListener('change', () => {
    for (const frame of frames) if (frame.themed) send(frame, { theme: colorMode() });
  });

  const server = async (frame, what, body) => {
    const response = await fetch(`/forge/frames/${frame.id}/${what}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body ?? {}),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    return answer;
  };

  // Other sites are opened in a new tab, and only after the person has agreed.
  const confirmed = (url) =>
    new Promise((resolve, reject) => {
      const dialog = document.getElementById('forge-leave');
      dialog.querySelector('[data-address]').textContent = url;
      dialog.returnValue = '';
      const go = dialog.querySelector('[value=continue]');
      const open = () => window.open(url, '_blank', 'noopener');
      go.addEventListener('click', open);
      dialog.addEventListener(
        'close',
        () => {
          go.removeEventListener('click', open);
          if (dialog.returnValue === 'continue') resolve();
          else reject(new Error('The user declined to leave Bitbucket'));
        },
        { once: true },
      );
      dialog.showModal();
    });

  const navigate = ({ url, type }) => {
    if (typeof url !== 'string') throw new Error('Only addresses can be navigated to here');
    const to = new URL(url, window.location.href);
    if (!['http:', 'https:'].includes(to.protocol)) throw new Error('This address cannot be opened');
    if (to.origin !== window.location.origin) return confirmed(to.href);
    if (type === 'new-tab') window.open(to.href, '_blank', 'noopener');
    else window.location.assign(to.href);
    return undefined;
  };

  const closeFlag = ({ id }) => document.querySelector(`[data-flag="${CSS.escape(id)}"]`)?.remove();
  const showFlag = ({ id, title, description, type }) => {
    closeFlag({ id });
    const flag = document.createElement('div');
    flag.className = `flag ${['success', 'warning', 'error'].includes(type) ? type : 'info'}`;
    flag.dataset.flag = id;
    const heading = document.createElement('strong');
    heading.textContent = title ?? '';
    const text = document.createElement('span');
    text.textContent = typeof description === 'string' ? description : '';
    const dismiss = document.createElement('button');
    dismiss.type = 'button';
    dismiss.textContent = 'Dismiss';
    dismiss.addEventListener('click', () => flag.remove());
    flag.append(heading, text, dismiss);
    document.getElementById('forge-flags').append(flag);
    return true;
  };

  const subscribe = (frame, visible, { event, subscription }) => {
    frame.subscriptions.push({ visible, event, subscription });
  };
  const emit = (from, visible, { event, payload }) => {
    for (const frame of frames) {
      if (visible === 'app' && frame.app !== from.app) continue;
      for (const s of frame.subscriptions) {
        if (s.visible === visible && s.event === event) send(frame, { subscription: s.subscription, payload });
      }
    }
  };

  const commands = {
    getContext: async (frame) => ({ ...(await server(frame, 'context')), theme: { colorMode: colorMode() } }),
    invoke: (frame, payload) => {
      if (payload?.invokeType !== 'ui-remote-fetch') throw new Error('This app has no functions to invoke');
      return server(frame, 'invoke', payload);
    },
    remoteToken: (frame, payload) => server(frame, 'token', payload),
    enableTheming: (frame) => {
      frame.themed = true;
      return colorMode();
    },
    navigate: (_frame, payload) => navigate(payload),
    reload: () => window.location.reload(),
    refresh: () => window.location.reload(),
    changeWindowTitle: (_frame, title) => {
      document.title = title;
    },
    emitReadyEvent: () => undefined,
    showFlag: (_frame, payload) => showFlag(payload),
    closeFlag: (_frame, payload) => closeFlag(payload),
    on: (frame, payload) => subscribe(frame, 'app', payload),
    onPublic: (frame, payload) => subscribe(frame, 'public', payload),
    off: (frame, { subscription }) => {
      frame.subscriptions = frame.subscriptions.filter((s) => s.subscription !== subscription);
    },
    emit: (frame, payload) => emit(frame, 'app', payload),
    emitPublic: (frame, payload) => emit(frame, 'public', payload),
  };

  window.addEventListener('message', async (event) => {
    const message = event.data;
    const frame = frames.find((f) => f.element.contentWindow === event.source);
    if (!frame || event.origin !== frame.origin || !message?.forge) return;
    if (message.height) {
      frame.element.style.height = `${Math.min(message.height, 20000)}px`;
      return;
    }
    if (!message.call) return;
    try {
      if (!Object.hasOwn(commands, message.command)) throw new Error(`The command ${message.command} is not offered here`);
      const value = await commands[message.command](frame, message.payload);
      send(frame, { reply: message.call, value });
    } catch (error) {
      send(frame, { reply: message.call, error: error.message });
    }
  });
})();
