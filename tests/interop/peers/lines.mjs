// The line protocol of lines.py for peers that run in Node: one JSON object a line. `t` is
// CLOCK_MONOTONIC in seconds.

import readline from 'node:readline';

export const now = () => Number(process.hrtime.bigint()) / 1e9;

export function emit(event, fields = {}) {
    process.stdout.write(JSON.stringify({ ev: event, t: now(), ...fields }) + '\n');
}

// Runs commands from stdin until it closes or `quit` comes. `commands` maps a command's name to an
// async function that takes its fields as one object and returns the fields of the reply. Commands
// run side by side.
export async function serve(commands) {
    emit('ready', { pid: process.pid });
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const { id, do: name, ...fields } = JSON.parse(line);
        if (name === 'quit') {
            emit('reply', { id, ok: true });
            return;
        }
        Promise.resolve(fields).then(commands[name]).then(
            (result) => emit('reply', { id, ok: true, ...result }),
            (error) => emit('reply', { id, ok: false, error: error.name, text: error.message }),
        );
    }
}
