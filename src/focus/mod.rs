//! How phones see rooms: a SIP conference focus (RFC 4353, RFC 4579) with its event package (RFC 4575).
#![allow(missing_docs, unused)]
use crate::{
    bridge::*, clock::Now, config::Config, directory::Directory, id::*, mixer::plan::*, room::*,
};
use cusax_sip::{flow::*, message::Message, parse::ParseError};
#[derive(Debug)]
pub struct Focus;
pub struct FocusConfig;
pub struct Wires<'a> {
    pub sip: &'a mut Vec<Transmit>,
    pub media: &'a mut Vec<Order>,
}
#[derive(Debug)]
pub struct Ask {
    pub room: RoomName,
    pub by: By,
    pub command: Command,
    pub reply: Reply,
}
#[derive(Debug)]
pub struct Reply;
impl FocusConfig {
    pub fn new(c: &Config) -> Self {
        Self
    }
}
impl Focus {
    pub fn new(now: std::time::Instant, c: FocusConfig, seed: [u8; 32]) -> Self {
        Self
    }
    pub fn receive(
        &mut self,
        now: Now,
        flow: Flow,
        message: Result<Message, ParseError>,
        rooms: &Rooms,
        d: &Directory,
        out: &mut Wires<'_>,
    ) -> Vec<Ask> {
        vec![]
    }
    pub fn failed(&mut self, now: Now, flow: Flow, rooms: &Rooms, out: &mut Wires<'_>) -> Vec<Ask> {
        vec![]
    }
    pub fn report(&mut self, now: Now, r: &Report, rooms: &Rooms, out: &mut Wires<'_>) -> Vec<Ask> {
        vec![]
    }
    pub fn answer(
        &mut self,
        now: Now,
        r: Reply,
        x: Result<(), Refusal>,
        rooms: &Rooms,
        out: &mut Wires<'_>,
    ) {
    }
    pub fn render(&mut self, now: Now, room: &Room, fact: &Fact, out: &mut Wires<'_>) {}
    pub fn poll_timeout(&self) -> Option<std::time::Instant> {
        None
    }
    pub fn handle_timeout(&mut self, now: Now, rooms: &Rooms, out: &mut Wires<'_>) -> Vec<Ask> {
        vec![]
    }
    pub fn subscriptions(&self) -> usize {
        0
    }
}
