// A chat user in a browser: Converse.js in headless Chromium, driven by JSON lines (lines.mjs).
//
//   converse.mjs --jid alice@chat.test --password P --url ws://127.0.0.1:5280/xmpp-websocket --modules DIR
//
// Everything is done as its user would, by what the page shows; nothing asks the library behind it.

import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';

import { emit, now, serve } from './lines.mjs';

const string = { type: 'string' };
const { values: options } = parseArgs({
    options: { jid: string, password: string, url: string, modules: string },
});
const { chromium } = createRequire(path.join(options.modules, 'from'))('playwright-core');
const files = path.join(options.modules, 'converse.js/dist');

const PATIENCE_MS = 25_000;
const TYPES = {
    '.css': 'text/css',
    '.js': 'text/javascript',
    '.json': 'application/json',
    '.svg': 'image/svg+xml',
    '.wasm': 'application/wasm',
    '.woff2': 'font/woff2',
};
const FLAGS = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-dev-shm-usage',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
];

function page(rooms) {
    const settings = {
        assets_path: '/dist/',
        authentication: 'login',
        auto_login: true,
        auto_join_rooms: rooms,
        discover_connection_methods: false,
        i18n: 'en',
        jid: options.jid,
        loglevel: 'warn',
        muc_domain: rooms[0].jid.split('@')[1],
        password: options.password,
        persistent_store: 'none',
        show_background: true,
        // Else what is written on a narrow page hides the list of occupants.
        view_mode: 'fullscreen',
        websocket_url: options.url,
    };
    return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Chat</title>
<link rel="stylesheet" href="/dist/converse.min.css"></head><body class="converse-fullscreen">
<script type="module" src="/dist/converse.min.js"></script>
<script type="module">converse.initialize(${JSON.stringify(settings)});</script></body></html>`;
}

// The files of Converse.js, and one page.
function serveFiles(html) {
    const server = http.createServer((request, response) => {
        const url = request.url.split('?')[0];
        const file = path.join(files, path.normalize(url.replace(/^\/dist/, '')));
        const found = url === '/' || (file.startsWith(files) && fs.existsSync(file));
        response.writeHead(found ? 200 : 404, {
            'content-type': url === '/' ? 'text/html' : TYPES[path.extname(file)] ?? 'application/octet-stream',
        });
        response.end(url === '/' ? html : found ? fs.readFileSync(file) : '');
    });
    return new Promise((ready) => server.listen(0, '127.0.0.1', () => ready(server)));
}

let browser, server, tab;
const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'converse-'));

const texts = (selector) =>
    tab.$$eval(selector, (found) => found.map((one) => one.textContent.trim().replace(/\s+/g, ' ')));
const occupant = (nick) =>
    tab.locator('converse-muc-sidebar .occupant').filter({ has: tab.locator(`.occupant-nick:text-is(${JSON.stringify(nick)})`) });

// Draws the edge of the list of occupants to the left, so that all badges have place.
async function widenSidebar() {
    const edge = await tab.locator('converse-muc converse-split-resize .gutter').boundingBox();
    await tab.mouse.move(edge.x + edge.width / 2, edge.y + edge.height / 2);
    await tab.mouse.down();
    await tab.mouse.move(820, edge.y + edge.height / 2, { steps: 4 });
    await tab.mouse.up();
}

const dialogue = () => tab.locator('converse-muc-occupant-modal');

const commands = {
    // Goes online, enters the room, and waits for its list of occupants.
    async join({ room, nick }) {
        server = await serveFiles(page([{ jid: room, nick }]));
        browser = await chromium.launchPersistentContext(profile, {
            executablePath: '/usr/bin/chromium',
            headless: true,
            viewport: { width: 1200, height: 640 },
            args: FLAGS,
        });
        tab = browser.pages()[0];
        tab.setDefaultTimeout(PATIENCE_MS);
        tab.on('pageerror', (error) => emit('pageerror', { text: error.message }));
        tab.on('console', (line) => emit('console', { text: line.text().slice(0, 2000) }));
        await tab.goto(`http://127.0.0.1:${server.address().port}/`);
        await occupant(nick).waitFor();
        await widenSidebar();
    },

    async say({ body }) {
        await tab.fill('converse-muc textarea.chat-textarea', body);
        await tab.keyboard.press('Enter');
    },

    // What stands in the room's list of occupants: nick and badges of each.
    async occupants() {
        const all = await tab.$$eval('converse-muc-sidebar .occupant', (found) =>
            found.map((one) => ({
                nick: one.querySelector('.occupant-nick').textContent.trim(),
                badges: [...one.querySelectorAll('.occupant-badges .badge')].map((badge) => badge.title),
            })),
        );
        return { occupants: all };
    },

    // What stands in the room's window.
    async messages() {
        return {
            messages: await texts('converse-muc converse-chat-message .chat-msg__text'),
            infos: await texts('converse-muc .chat-info'),
            subject: await texts('converse-muc .chat-head__desc'),
        };
    },

    // Opens an occupant from the list: what its side pane says in badges.
    async open({ nick }) {
        await occupant(nick).locator('.occupant-nick').click();
        await tab.locator('.occupant-details-nickname').filter({ hasText: nick }).waitFor();
    },

    // The badges of the occupant that is open.
    async badges() {
        return { badges: await texts('converse-muc-sidebar .occupant-details .badge') };
    },

    // Fills in the form behind the picture of the occupant that is open.
    async choose_role({ role, reason }) {
        await tab.click('.sidebar-occupant converse-avatar');
        await dialogue().locator('.toggle-form[data-form=row-form]').click();
        await dialogue().locator('select[name=role]').selectOption(role);
        await dialogue().locator('input[name=reason]').fill(reason);
    },

    // Sends that form, and closes the dialogue once it shows the role as the room has it.
    async change_role({ role }) {
        await dialogue().locator('.role-form button[type=submit]').click();
        const row = dialogue().locator('.occupant-details > li').filter({ hasText: 'Role:' });
        await row.locator('.text-end').first().filter({ hasText: role }).waitFor();
        const answered = now();
        await dialogue().getByRole('button', { name: 'Close' }).last().click();
        await dialogue().waitFor({ state: 'hidden' });
        return { answered };
    },

    async back() {
        await tab.click('.sidebar-occupant .back-button');
    },

    async screenshot({ file }) {
        await tab.screenshot({ path: file });
    },
};

await serve(commands);
await browser?.close();
server?.close();
fs.rmSync(profile, { recursive: true, force: true });
process.exit(0);
