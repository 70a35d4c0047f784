// What the console does in the browser: opens dialogs, draws how loud people are, says when the
// connection is lost. Pages work without it, when they are asked for again.
(() => {
    'use strict';

    const dialog = document.getElementById('dialog');
    const offline = document.getElementById('offline');
    const QUIET_DBOV = -60;
    const MAX_ROWS = 200;
    // How loud each call leg is: [level in dBov, speaks].
    const levels = new Map();

    // --- dialogs ---

    document.addEventListener('htmx:afterSwap', (event) => {
        if (event.detail.target === dialog && dialog.firstElementChild) {
            dialog.showModal();
            dialog.querySelector('input:not([type=hidden]), textarea, select, button')?.focus();
        }
    });
    // What was done closes its dialog; what was refused is said in it.
    document.addEventListener('done', (event) => {
        if (dialog?.contains(event.target)) {
            document.getElementById('notice').replaceChildren(...document.getElementById('outcome').childNodes);
            dialog.close();
        }
    });
    dialog?.addEventListener('click', (event) => {
        if (event.target === dialog || event.target.closest('[data-close]')) {
            event.preventDefault();
            dialog.close();
        }
    });
    dialog?.addEventListener('close', () => dialog.replaceChildren());
    // On a page of its own, a form is left as any page is.
    document.addEventListener('click', (event) => {
        if (event.target.closest('[data-close]') && !event.target.closest('dialog')) {
            event.preventDefault();
            history.back();
        }
    });

    // --- how loud people are ---

    function draw(row) {
        const heard = row.dataset.legs.split(' ').map((leg) => levels.get(leg)).filter(Boolean);
        const level = Math.max(QUIET_DBOV, ...heard.map(([dbov]) => dbov));
        const share = 1 - level / QUIET_DBOV;
        row.querySelector('.bar')?.style.setProperty('inline-size', `${Math.round(share * 100)}%`);
        row.classList.toggle('speaks', heard.some(([, speaks]) => speaks));
    }
    function drawAll() {
        document.querySelectorAll('tr[data-legs]').forEach(draw);
    }
    document.addEventListener('htmx:sseBeforeMessage', (event) => {
        if (event.detail.type !== 'levels') return;
        event.preventDefault();
        for (const [leg, level] of Object.entries(JSON.parse(event.detail.data))) levels.set(leg, level);
        drawAll();
    });

    // --- what comes by itself ---

    // A page that is left ends what it follows, and does not take that for a lost connection.
    const sources = new Set();
    htmx.createEventSource = (url) => {
        const source = new EventSource(url);
        sources.add(source);
        return source;
    };
    addEventListener('pagehide', () => sources.forEach((source) => source.close()));
    addEventListener('pageshow', (event) => {
        if (event.persisted) location.reload();
    });

    document.addEventListener('htmx:afterSwap', (event) => {
        drawAll();
        const rows = document.getElementById('rows');
        if (event.detail.target === rows) {
            while (rows.childElementCount > MAX_ROWS) rows.lastElementChild.remove();
        }
    });
    const say = (lost) => {
        if (offline) offline.hidden = !lost;
    };
    document.addEventListener('htmx:sseOpen', () => say(false));
    document.addEventListener('htmx:sseError', () => say(true));
    document.addEventListener('htmx:sendError', () => say(true));
    document.addEventListener('htmx:afterOnLoad', () => say(false));
})();
