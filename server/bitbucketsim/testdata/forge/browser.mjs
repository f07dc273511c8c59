// Opens a pull request in a browser, uses the app that is framed there, and prints what came of it.
// Arguments: origin of the Sim, folder to build the app's page into.
import { existsSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { chromium } from '@playwright/test';
import { build } from 'vite';

const [origin, folder] = process.argv.slice(2);
const here = (path) => fileURLToPath(new URL(path, import.meta.url));

await build({
  configFile: false,
  publicDir: false,
  logLevel: 'silent',
  build: { outDir: folder, target: 'es2022', lib: { entry: here('panel.js'), formats: ['es'], fileName: () => 'panel.js' } },
});
await cp(here('panel/index.html'), `${folder}/index.html`);

const executablePath = [
  process.env.CHROMIUM,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
].find((path) => path && existsSync(path));
if (!executablePath) throw new Error('no Chromium or Chrome found: install one, or name its program in CHROMIUM');
const browser = await chromium.launch({
  executablePath,
  args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
  ignoreDefaultArgs: ['--disable-popup-blocking'],
});
try {
  const context = await browser.newContext({ colorScheme: 'dark' });
  const page = await context.newPage();
  page.setDefaultTimeout(120_000); // a busy machine starts it slowly
  const problems = [];
  page.on('console', (m) => m.type() === 'error' && problems.push(m.text()));
  await page.goto(`${origin}/account/signin?next=/acme/rocket/pull-requests/1`);
  await page.getByRole('button', { name: 'Carol' }).click();
  const card = page.frameLocator('[data-testid=forge-frame-pr-card]');
  const panel = page.frameLocator('[data-testid=forge-frame-pr-panel]');
  await card.locator('#ready').waitFor();
  await panel.locator('#ready').waitFor();
  const out = {
    frame: await page.locator('#forge-pr-card').evaluate((f) => ({ sandbox: f.getAttribute('sandbox'), allow: f.getAttribute('allow'), height: f.offsetHeight })),
  };
  for (const name of ['mode', 'context', 'good', 'bad', 'unreadable', 'direct', 'credentials', 'cookies']) {
    out[name] = JSON.parse(await card.locator(`#${name}`).textContent());
  }
  await card.getByRole('button', { name: 'Tell the others' }).click();
  out.told = JSON.parse(await panel.locator('#told').textContent());
  await card.getByRole('button', { name: 'Pop up' }).click();
  out.popup = JSON.parse(await card.locator('#popped').textContent());
  await card.getByRole('button', { name: 'Raise a flag' }).click();
  out.flag = await page.locator('#forge-flags').innerText();
  await card.getByRole('button', { name: 'Open elsewhere' }).click();
  const dialog = page.getByRole('dialog', { name: 'You are leaving Bitbucket' });
  out.dialog = await dialog.locator('code').textContent();
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  out.declined = JSON.parse(await card.locator('#opened').textContent());
  await card.getByRole('button', { name: 'Open elsewhere' }).click();
  const [tab] = await Promise.all([context.waitForEvent('page'), dialog.getByRole('button', { name: 'Continue' }).click()]);
  out.tab = tab !== page;
  await card.locator('#opened').nth(1).waitFor();
  await Promise.all([page.waitForURL('**/acme/rocket'), card.getByRole('button', { name: 'Open here' }).click()]);
  out.problems = problems;
  process.stdout.write(JSON.stringify(out));
} finally {
  await browser.close();
}
