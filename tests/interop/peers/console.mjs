// An operator at the console: headless Chromium, driven by JSON lines (lines.mjs).
//
//   console.mjs --url http://127.0.0.1:8088 --modules DIR
//
// Everything is done by what a page shows, by keyboard where that is what is tested. Whatever a page
// complains about in its console is told as an event.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';

import { emit, now, serve } from './lines.mjs';

const string = { type: 'string' };
const { values: options } = parseArgs({ options: { url: string, modules: string } });
const load = createRequire(path.join(options.modules, 'from'));
const { chromium } = load('playwright-core');
const axe = fs.readFileSync(load.resolve('axe-core/axe.min.js'), 'utf8');

const PATIENCE_MS = 20_000;
const FLAGS = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-dev-shm-usage',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
];

const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'console-'));
const browser = await chromium.launchPersistentContext(profile, {
    executablePath: '/usr/bin/chromium',
    headless: true,
    args: FLAGS,
    reducedMotion: 'reduce',
});
const tab = browser.pages()[0];
tab.setDefaultTimeout(PATIENCE_MS);
watch(tab);

function watch(page) {
    page.on('pageerror', (error) => emit('complaint', { text: error.message }));
    page.on('console', (line) => {
        // The page that asks for a token is a refusal, and Chromium says so.
        const expected = line.text().includes('401 (Unauthorized)');
        if (['error', 'warning'].includes(line.type()) && !expected) {
            emit('complaint', { text: line.text().slice(0, 2000) });
        }
    });
}

const url = (where) => new URL(where, options.url).href;

// What axe finds that is serious, in a context of its own: our policy lets no script in but ours.
async function examine(where, scheme) {
    const cookies = await browser.cookies();
    const other = await browser.browser().newContext({ bypassCSP: true, colorScheme: scheme, reducedMotion: 'reduce' });
    try {
        await other.addCookies(cookies);
        const page = await other.newPage();
        await page.goto(url(where));
        await page.waitForLoadState('load');
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }));
        return violations
            .filter((fault) => ['serious', 'critical'].includes(fault.impact))
            .map((fault) => `${where} (${scheme}): ${fault.id}: ${fault.nodes.slice(0, 3).map((it) => it.html).join(' | ')}`);
    } finally {
        await other.close();
    }
}

await serve({
    async open({ where }) {
        const answer = await tab.goto(url(where));
        return { status: answer?.status() };
    },

    async log_in({ token }) {
        await tab.fill('#token', token);
        await tab.keyboard.press('Enter');
        await tab.locator('nav[aria-label=Pages]').waitFor();
    },

    // Waits until an element says this.
    async shows({ selector, text }) {
        await tab.locator(selector).filter({ hasText: text }).first().waitFor();
        return { at: now() };
    },

    // How many elements there are of a kind.
    async count({ selector }) {
        return { count: await tab.locator(selector).count() };
    },

    // Presses what has the focus, after moving it there as who has no mouse does.
    async press({ name }) {
        const wanted = tab.getByRole('button', { name, exact: true }).or(tab.getByRole('link', { name, exact: true }));
        await wanted.first().waitFor();
        for (let tries = 0; tries < 200; tries += 1) {
            if (await wanted.first().evaluate((it) => it === document.activeElement)) {
                await tab.keyboard.press('Enter');
                return { at: now() };
            }
            await tab.keyboard.press('Tab');
        }
        throw new Error(`${name} is out of reach by keyboard`);
    },

    async fill({ label, text }) {
        await tab.getByLabel(label, { exact: true }).fill(text);
    },

    // What has the focus.
    async focus() {
        return { name: await tab.evaluate(() => document.activeElement.ariaLabel ?? document.activeElement.textContent.trim()) };
    },

    // The widest of somebody's level bar, in percent, while we look for a second.
    async level({ person }) {
        let widest = 0;
        for (let look = 0; look < 10; look += 1) {
            const width = await tab.locator('tr', { hasText: person }).locator('.bar').evaluate((it) => parseFloat(it.style.inlineSize) || 0);
            widest = Math.max(widest, width);
            await tab.waitForTimeout(100);
        }
        return { widest };
    },

    async screenshot({ file, width, height, scheme }) {
        await tab.setViewportSize({ width, height });
        await tab.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
        // What is wider than the window is a fault: nobody scrolls sideways.
        const wide = await tab.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        await tab.screenshot({ path: file });
        return { wide };
    },

    async examine({ where, scheme }) {
        return { faults: await examine(where, scheme) };
    },
});
await browser.close();
fs.rmSync(profile, { recursive: true, force: true });
process.exit(0);
