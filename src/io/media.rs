//! x
#![allow(missing_docs, unused)]
use crate::{metrics::Metrics, mixer::plan::*};
pub struct Media;
impl Media {
    pub fn start(w: usize, r: tokio::sync::mpsc::Sender<Report>) -> std::io::Result<Self> {
        std::mem::forget(r);
        Ok(Self)
    }
    pub fn order(&mut self, o: Order) {}
    pub fn measure(&self, m: &Metrics) {}
    pub fn moves(&self) -> bool {
        true
    }
    pub fn stop(self) {}
}
