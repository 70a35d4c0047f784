// What a browser's SIP library does without a browser: JsSIP over a WebSocket (RFC 7118), signalling only.
//
//     node browser.mjs MODULES ws://127.0.0.1:5080 sip:room@conf.test
//
// Asks with OPTIONS, subscribes to the conference, offers a call as browsers do (DTLS-SRTP), and prints a
// line of JSON for each thing that came of it.

import { createRequire } from "node:module";

const [modules, url, room] = process.argv.slice(2);
const require = createRequire(modules + "/");
const JsSIP = require("jssip");
const { InitialOutgoingInviteRequest } = require("jssip/lib/SIPMessage.js");
const RequestSender = require("jssip/lib/RequestSender.js");
const WebSocket = require("ws");

const say = (event, fields = {}) => console.log(JSON.stringify({ ev: event, ...fields }));

// The interface that JsSIP asks of its sockets.
class Socket {
  constructor() {
    this.url = url;
    this.sip_uri = "sip:127.0.0.1;transport=ws";
    this.via_transport = url.startsWith("wss") ? "WSS" : "WS";
  }
  connect() {
    // The certificate of a test site is its own.
    this.ws = new WebSocket(url, "sip", { rejectUnauthorized: false });
    this.ws.on("open", () => this.onconnect());
    this.ws.on("message", (data) => this.ondata(data.toString()));
    this.ws.on("close", () => this.ondisconnect(false));
    this.ws.on("error", (error) => say("error", { text: error.message }));
  }
  disconnect() {
    this.ws?.close();
  }
  send(message) {
    this.ws.send(message);
    return true;
  }
  isConnected() {
    return this.ws?.readyState === WebSocket.OPEN;
  }
  isConnecting() {
    return this.ws?.readyState === WebSocket.CONNECTING;
  }
}

const ua = new JsSIP.UA({ sockets: [new Socket()], uri: "sip:erin@conf.test", register: false });

const connected = new Promise((done) => ua.on("connected", done));
ua.start();
await connected;
say("connected");

await new Promise((done) =>
  ua.sendOptions(room, null, {
    eventHandlers: {
      succeeded: ({ response }) => done(say("options", { status: response.status_code, contact: response.getHeader("contact") })),
      failed: ({ response }) => done(say("options", { status: response?.status_code ?? 0 })),
    },
  }),
);

const subscription = ua.subscribe(room, "conference", "application/conference-info+xml", { expires: 120 });
subscription.on("accepted", () => say("accepted"));
await new Promise((done) => {
  subscription.on("notify", (final, request, body) => done(say("notify", { body: body ?? request.body })));
  subscription.on("terminated", (code, reason) => done(say("terminated", { code, reason })));
  subscription.subscribe();
});

const offer = [
  "v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0",
  "m=audio 9 UDP/TLS/RTP/SAVPF 111", "c=IN IP4 127.0.0.1", "a=rtpmap:111 opus/48000/2",
  "a=fingerprint:sha-256 " + Array(32).fill("AA").join(":"), "a=setup:actpass", "a=mid:0",
  "a=rtcp-mux", "a=ice-ufrag:abcd", "a=ice-pwd:abcdefghijklmnopqrstuv", "a=sendrecv", "",
].join("\r\n");
// JsSIP calls only with a browser's peer connection, so the INVITE is made of its parts.
const headers = ["Contact: " + ua.contact.toString(), "Content-Type: application/sdp"];
const request = new InitialOutgoingInviteRequest(JsSIP.URI.parse(room), ua, {}, headers, offer);
await new Promise((done) => {
  const refused = (status) => done(say("invite", { status }));
  new RequestSender(ua, request, {
    onRequestTimeout: () => refused(408),
    onTransportError: () => refused(503),
    onReceiveResponse: (response) => response.status_code >= 200 && refused(response.status_code),
  }).send();
});

say("done");
process.exit(0);
