#!/usr/bin/env python3
"""A telephone: modern baresip (PyPI `baresip-python`), driven by JSON lines (see lines.py).

    caller.py --user bob --domain conf.test --proxy 'sip:127.0.0.1:5060;transport=udp' --record DIR/bob

Sends a tone, a wav file or silence without a break, and records what it hears. Beside each
recording `NAME.pcm` (mono, 16 bit) lies `NAME.marks`: first its sampling rate, then one line
`SAMPLES SECONDS` a read, which says at what time (CLOCK_MONOTONIC) the recording was how long.
`DIR/bob.heard.*` is what arrived, `DIR/bob.sent.*` what was sent.
"""

import argparse
import asyncio
import logging
import threading
import time
import wave

import numpy as np
from baresip import Account, AudioNotActive, AudioRestarted, Config, Runtime, UserAgent
from baresip.events import Event

import lines

# The phone's own buffer towards the network: what a busy machine may delay us without a gap.
AHEAD_SECONDS = 0.24
POLL_SECONDS = 0.01


class Track:
    """One direction of a call on disk: samples, and when there were how many."""

    def __init__(self, prefix):
        self.prefix, self.rate, self.total = prefix, None, 0

    def open(self, rate):
        if self.rate is None:
            self.rate = rate
            self.pcm = open(self.prefix + ".pcm", "wb", buffering=0)
            self.marks = open(self.prefix + ".marks", "w", buffering=1)
            self.marks.write(f"{rate}\n")
        # A later call in another codec would need another file: no test wants one.
        assert self.rate == rate, "the sampling rate changed"

    def add(self, samples, at):
        self.pcm.write(samples.tobytes())
        self.total += len(samples)
        self.marks.write(f"{self.total} {at:.6f}\n")


class Source:
    """What the phone says: endless mono samples at any rate."""

    def __init__(self):
        self.hz, self.level, self.speech, self.loop = None, 0.0, None, True
        self.position = 0

    def tone(self, hz, dbfs):
        self.hz, self.level, self.speech = hz, 10 ** (dbfs / 20), None

    def play(self, path, loop):
        with wave.open(path) as file:
            assert file.getsampwidth() == 2 and file.getnchannels() == 1, "mono 16 bit wav only"
            self.speech_rate = file.getframerate()
            self.speech = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        self.hz, self.loop, self.position, self.ready_rate = None, loop, 0, None

    def silence(self):
        self.hz = self.speech = None

    def take(self, count, rate):
        at = self.position
        self.position += count
        if self.hz is not None:
            phase = 2 * np.pi * self.hz * (at + np.arange(count)) / rate
            return (np.sin(phase) * self.level * 32767).astype(np.int16)
        if self.speech is None:
            return np.zeros(count, np.int16)
        if self.ready_rate != rate:
            self.ready, self.ready_rate = resample(self.speech, self.speech_rate, rate), rate
        if self.loop:
            return self.ready.take(range(at, at + count), mode="wrap")
        part = self.ready[at : at + count]
        return np.concatenate([part, np.zeros(count - len(part), np.int16)])


def resample(samples, rate, wanted):
    """Band-limited resampling of a whole recording through its spectrum."""
    count = len(samples) * wanted // rate
    spectrum = np.fft.rfft(samples.astype(float))
    resized = np.zeros(count // 2 + 1, complex)
    shared = min(len(spectrum), len(resized))
    resized[:shared] = spectrum[:shared]
    return np.clip(np.fft.irfft(resized, count) * count / len(samples), -32768, 32767).astype(np.int16)


class Phone:
    def __init__(self, options):
        self.options, self.call, self.source = options, None, Source()
        self.heard, self.sent = Track(options.record + ".heard"), Track(options.record + ".sent")

    async def start(self):
        options = self.options
        self.runtime = Runtime()
        await self.runtime.start(
            Config(
                net_interface=options.host,
                sip_trace=True,
                native_log_level="warning",
                max_concurrent_calls=None,
                extra_config_text="\n".join(options.config),
            )
        )
        trace = logging.getLogger("baresip.native.sip")
        trace.setLevel(logging.DEBUG)
        trace.propagate = False
        trace.addHandler(Trace())
        account = Account(
            user=options.user,
            domain=options.domain,
            password=options.password,
            registrar=options.proxy,  # where requests go first: nothing is registered
            reg_interval=0,
            transport=options.transport,
            audio_codecs=tuple(options.codecs.split(",")),
            auth_user=options.user,
            extra_params=tuple(options.param),
        )
        self.agent = await UserAgent.create(self.runtime, account)
        self.agent.on_incoming(self.ring)

    def ring(self, call):
        lines.emit("incoming", peer=call.peer)
        self.adopt(call)

    def adopt(self, call):
        self.call = call
        call.on(self.report)
        call.on_dtmf(lambda digit: lines.emit("dtmf", digit=digit.digit))
        threading.Thread(target=self.pump, args=(call,), daemon=True).start()

    def report(self, event):
        names = {
            Event.CALL_RINGING: "ringing",
            Event.CALL_PROGRESS: "progress",
            Event.CALL_ESTABLISHED: "established",
            Event.CALL_CLOSED: "closed",
            Event.CALL_HOLD: "held",
            Event.CALL_RESUME: "resumed",
            Event.AUDIO_WARNING: "audio_warning",
        }
        if event.event in names:
            lines.emit(names[event.event], text=event.text, stats=event.stats)

    def pump(self, call):
        """Feeds and drains the call's audio on a thread of its own, until it is gone."""
        started = False
        while call.state.name != "CLOSED":
            try:
                info = call.audio.info()
                if info.tx_ready and info.rx_ready:
                    if not started:
                        started = True
                        self.heard.open(info.rx_sample_rate)
                        self.sent.open(info.tx_sample_rate)
                        lines.emit("audio", rate=info.rx_sample_rate, channels=info.rx_channels)
                    self.feed(call, info)
                    self.drain(call, info)
            except AudioRestarted:
                pass
            except AudioNotActive:
                if started and call.state.name == "CLOSED":
                    break
            time.sleep(POLL_SECONDS)

    def feed(self, call, info):
        frame = 2 * info.tx_channels
        want = int(AHEAD_SECONDS * info.tx_sample_rate) - info.tx_buffered // frame
        want = min(want, (info.tx_capacity - info.tx_buffered) // frame)
        if want <= 0:
            return
        mono = self.source.take(want, info.tx_sample_rate)
        call.audio.write(np.repeat(mono, info.tx_channels).tobytes())
        # The last of these leaves when all that is queued has left.
        queued = info.tx_buffered / frame / info.tx_sample_rate + want / info.tx_sample_rate
        self.sent.add(mono, time.monotonic() + queued)

    def drain(self, call, info):
        data = call.audio.read(info.rx_capacity)
        if data:
            samples = np.frombuffer(data, np.int16)[:: info.rx_channels]
            self.heard.add(samples, time.monotonic())

    # The commands.

    async def dial(self, uri, headers=None):
        # A server on this machine may answer before the library has made its `Call`, which then
        # misses that: it is told again.
        early = []
        self.runtime.subscribe(early.append)
        try:
            call = await self.agent.dial(uri, headers)
        finally:
            self.runtime.unsubscribe(early.append)
        self.adopt(call)
        for event in early:
            if event.call == call.handle:
                call._on_stack_event(event)

    async def answer(self):
        await self.call.answer()

    async def hangup(self):
        await self.call.hangup()

    async def hold(self):
        await self.call.hold()

    async def resume(self):
        await self.call.resume()

    async def dtmf(self, digits):
        await self.call.send_dtmf(digits)

    async def tone(self, hz, dbfs=-12.0):
        self.source.tone(hz, dbfs)

    async def play(self, path, loop=True):
        self.source.play(path, loop)

    async def silence(self):
        self.source.silence()

    async def audio(self):
        """The phone's own view of its media: starved frames mean that *we* made a gap."""
        info, stats = self.call.audio.info(), self.call.audio.stats()
        return {"info": vars(info), "stats": vars(stats)}


class Trace(logging.Handler):
    """Every SIP message that the phone sent or received."""

    def emit(self, record):
        lines.emit("sip", text=record.getMessage())


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--user", required=True)
    parser.add_argument("--domain", required=True, help="domain of the address of record")
    parser.add_argument("--proxy", required=True, help="where requests go first")
    parser.add_argument("--record", required=True, help="prefix of the recordings' paths")
    parser.add_argument("--password", default="")
    parser.add_argument("--host", default="127.0.0.1", help="its own address")
    parser.add_argument("--transport", default="udp", choices=["udp", "tcp", "tls"])
    parser.add_argument("--codecs", default="opus/48000/2")
    parser.add_argument("--param", action="append", default=[], help="account parameter")
    parser.add_argument("--config", action="append", default=[], help="line of configuration")
    phone = Phone(parser.parse_args())
    await phone.start()
    names = "dial answer hangup hold resume dtmf tone play silence audio".split()
    try:
        await lines.serve({name: getattr(phone, name) for name in names})
    finally:
        if phone.call is not None and phone.call.state.name != "CLOSED":
            await phone.call.hangup()
            await asyncio.sleep(0.2)
        await phone.runtime.close()


asyncio.run(main())
